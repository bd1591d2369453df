from pretrained.case import Case

CONFIG = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
IMAGES = {**CONFIG, "image_size": [12, 16], "patch_size": 4}
SOUNDS = {"patch_size": 4, "frequency_stride": 3, "time_stride": 2, "max_length": 16, "num_mel_bins": 13}


def images(rng):
    return {"pixel_values": rng.normal(size=(3, 3, 12, 16)).astype("float32")}


def images_to_ours(inputs):
    return {"images": inputs["pixel_values"].transpose(0, 2, 3, 1)}


def sounds(rng):
    return {"input_values": rng.normal(size=(3, 16, 13)).astype("float32")}


def case(architecture, config, variant="", **options):
    return Case(architecture, config, variant, inputs=images, to_ours=images_to_ours, **options)


TEACHER = "DeiTForImageClassificationWithTeacher"
CASES = [
    case("ViTModel", {**IMAGES, "qkv_bias": False}),
    case("ViTForImageClassification", {**IMAGES, "num_labels": 3}, fixture=True),
    case(TEACHER, {**IMAGES, "num_labels": 3}, fixture=True),
    Case(
        "ASTForAudioClassification",
        {**CONFIG, **SOUNDS, "num_labels": 3},
        inputs=sounds,
        to_ours=dict,
        fixture=True,
    ),
]
