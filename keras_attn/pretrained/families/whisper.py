"""Whisper: [Radford et al., 2022](https://arxiv.org/abs/2212.04356)."""

from keras_attn.layers import AudioFrontEnd, LearnedPositionEmbedding
from keras_attn.models import Transformer
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


def settings(config):
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


WHISPER = Family(
    Transformer,
    settings,
    TENSORS,
    {"speech_to_text": Head("WhisperForConditionalGeneration", {"proj_out.weight": "embedding/reverse_embeddings"})},
    prefix="model",
    tied=("proj_out.weight", "decoder.embed_tokens.weight"),
)
