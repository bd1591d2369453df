from pretrained.case import Case

CONFIG = {
    "vocab_size": 11,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "conv_dim": [16, 18],
    "conv_stride": [3, 2],
    "conv_kernel": [5, 3],
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 13,
    "num_labels": 3,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def samples(rng):
    return {"input_values": rng.normal(size=(3, 70)).astype("float32")}


def to_ours(inputs):
    return {"input_values": inputs["input_values"][..., None]}


CASES = [
    Case("Wav2Vec2ForCTC", CONFIG, inputs=samples, to_ours=to_ours, fixture=True),
    Case("Wav2Vec2ForSequenceClassification", {**CONFIG, **STABLE}, "stable", inputs=samples, to_ours=to_ours),
    Case("Wav2Vec2Model", {**CONFIG, **STABLE}, "stable", inputs=samples, to_ours=to_ours),
]
