import numpy as np
from pretrained.case import LENGTHS, SIZE, Case

BASE = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
IMAGES = {**BASE, "image_size": 12, "patch_size": 4}
TEXTS = {**BASE, "hidden_size": 20, "vocab_size": SIZE, "max_position_embeddings": 20, "pad_token_id": 0}
CLIP = {"vision_config": IMAGES, "text_config": {**TEXTS, "eos_token_id": 1}, "projection_dim": 18}
OLD = {**CLIP, "text_config": {**TEXTS, "eos_token_id": 2}}
SIGLIP = {"vision_config": IMAGES, "text_config": {**TEXTS, "projection_size": 24}}


def pictures(rng, end_id=1):
    ids = rng.integers(5, SIZE - 1, (len(LENGTHS), max(LENGTHS)))
    for row, length in zip(ids, LENGTHS, strict=True):
        row[length - 1] = end_id
    return {"pixel_values": rng.normal(size=(2, 3, 12, 12)).astype("float32"), "input_ids": ids}


def pictures_of_old_configs(rng):
    return pictures(rng, SIZE - 1)


def to_ours(inputs):
    return {"images": inputs["pixel_values"].transpose(0, 2, 3, 1), "token_ids": np.asarray(inputs["input_ids"])}


CASES = [
    Case("CLIPModel", CLIP, inputs=pictures, to_ours=to_ours, fixture=True),
    Case("CLIPModel", OLD, "old", inputs=pictures_of_old_configs, to_ours=to_ours),
    Case("SiglipModel", SIGLIP, inputs=pictures, to_ours=to_ours, fixture=True),
]
