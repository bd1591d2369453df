"""Whisper: [Radford et al., 2022](https://arxiv.org/abs/2212.04356)."""

from typing import Any

from keras_attn.layers import AudioFrontEnd, LearnedPositionEmbedding
from keras_attn.models import Transformer
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.conversions import ENCODER
from keras_attn.pretrained.families import wav2vec2
from keras_attn.pretrained.families.bart import common_settings, tensors
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rows import convolution

_BODY = tensors("before")
del _BODY["shared.weight"]
TENSORS = _BODY | {
    "encoder.conv1": convolution("front_end/convolution_0", 3),
    "encoder.conv2": convolution("front_end/convolution_1", 3),
    "encoder.embed_positions": "position",
    "decoder.embed_tokens": "embedding",
    "decoder.embed_positions": "decoder_position",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.only("scale_embedding", False)
    config.ignore("use_weighted_layer_sum", "classifier_proj_size", "median_filter_width", "forced_decoder_ids")
    # Changes of the features in training.
    config.ignore("apply_spec_augment", *(f"mask_time_{x}" for x in ("prob", "length", "min_masks")))
    config.ignore(*(f"mask_feature_{x}" for x in ("prob", "length", "min_masks")))
    common = common_settings(config)
    sources = config.size("max_source_positions", 1500)
    return common | {
        "embeddings": AudioFrontEnd(common["hidden_dim"], name="front_end"),
        "inputs": {"input_features": {"shape": [None, config.size("num_mel_bins", 80)], "dtype": "float32"}},
        "norm": "pre",
        "use_attention_bias": ["query", "value", "output"],
        # Sinusoids, which `transformers` does not train either.
        "position": LearnedPositionEmbedding(sources, trainable=False, name="position"),
        "decoder_position": LearnedPositionEmbedding(config.size("max_target_positions", 448), name="decoder_position"),
    }


# What `generate` of Whisper alone understands; the last change nothing without arguments.
_OWN = ("lang_to_id", "task_to_id", "language", "task", "forced_decoder_ids", "no_timestamps_token_id")
_OWN += ("is_multilingual", "alignment_heads", "prev_sot_token_id", "max_initial_timestamp_index")
_OWN += ("median_filter_width", "prompt_condition_type")


def generation(entries: Any, source: Any) -> Any:
    """The prompt of the decoder as a prefix; without a given language, the model chooses one."""
    prefix = _prefix({"forced_decoder_ids": entries.get("forced_decoder_ids"), **source})
    if prefix and (source.get("num_beams") or 1) > 1:
        raise ValueError(
            f"`generation_config.json` may have 'num_beams' only as 1 for Whisper. Received: {source['num_beams']}"
        )
    found = {name: value for name, value in source.items() if name not in _OWN}
    limit = entries.get("max_target_positions", 448)
    prompt = min(len(prefix) + 1, limit // 2 - 1)
    length = 20 if source.get("max_length") is None else source["max_length"]
    return found | {"prefix_ids": prefix, "max_length": min(length + prompt, limit)}


def _prefix(source):
    language, task = source.get("language"), source.get("task")
    languages, tasks = source.get("lang_to_id"), source.get("task_to_id") or {}
    prefix = []
    forced = source.get("forced_decoder_ids") or []
    if language is None and task is None and forced and forced[0][0] == 1:
        if [position for position, _ in forced] != list(range(1, len(forced) + 1)):
            raise ValueError(f"'forced_decoder_ids' must be at positions 1, 2, ... Received: {forced}")
        prefix = [token for _, token in forced]
    if language is not None:
        name = language if language in (languages or {}) else f"<|{language}|>"
        prefix[:1] = [_known("language", name, languages or {})]
    elif languages and (not prefix or prefix[0] is None):
        prefix[:1] = [tuple(sorted(languages.values()))]
    if task is not None:
        prefix.append(_known("task", task, tasks))
    elif language is not None and tasks and not set(prefix) & set(tasks.values()):
        prefix.append(tasks["transcribe"])
    without = source.get("no_timestamps_token_id")
    if without is not None and prefix[-1:] != [without]:
        prefix.append(without)
    return tuple(token for token in prefix if token is not None)


def _known(kind, name, ids):
    if name not in ids:
        raise ValueError(f"`generation_config.json` must have {kind!r} as one of {sorted(ids)}. Received: {name!r}")
    return ids[name]


def _classifier(config, num_classes):
    config.only("use_weighted_layer_sum", False)
    return wav2vec2.classifier(config, num_classes)


WHISPER = Family(
    Transformer,
    settings,
    TENSORS,
    {
        "speech_to_text": Head("WhisperForConditionalGeneration", {"proj_out.weight": "embedding/reverse_embeddings"}),
        "audio_classification": Head(
            "WhisperForAudioClassification",
            {"projector": "head/hidden", "classifier": "head/classifier"},
            _classifier,
            "classifier.weight",
            (r"decoder\..*",),
            conversion=ENCODER,
            has_prefix=False,
        ),
    },
    prefix="model",
    tied=("proj_out.weight", "decoder.embed_tokens.weight"),
    generation=generation,
)
