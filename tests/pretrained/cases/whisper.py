from pretrained.case import SIZE, Case
from pretrained.cases.bart import CONFIG as BART

CONFIG = {
    **{name: value for name, value in BART.items() if name not in ("forced_eos_token_id", "max_position_embeddings")},
    "num_mel_bins": 7,
    "max_source_positions": 10,
    "max_target_positions": 30,
    "begin_suppress_tokens": None,
}


def features(rng):
    ids = rng.integers(5, SIZE, (3, 6))
    return {"input_features": rng.normal(size=(3, 7, 20)).astype("float32"), "decoder_input_ids": ids}


def sounds(rng):
    return {"input_features": features(rng)["input_features"]}


def sounds_to_ours(inputs):
    return {"input_features": inputs["input_features"].transpose(0, 2, 1)}


def to_ours(inputs):
    return {**sounds_to_ours(inputs), "target_ids": inputs["decoder_input_ids"]}


CLASSES = {"classifier_proj_size": 13, "num_labels": 3}
CASES = [
    Case("WhisperForConditionalGeneration", CONFIG, inputs=features, to_ours=to_ours, fixture=True),
    Case("WhisperForAudioClassification", {**CONFIG, **CLASSES}, inputs=sounds, to_ours=sounds_to_ours, fixture=True),
]
