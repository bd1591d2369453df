"""DeBERTa v2 and v3: [He et al., 2021](https://arxiv.org/abs/2006.03654) and [2023](https://arxiv.org/abs/2111.09543)."""

from typing import Any

import keras

from keras_attn.layers import DisentangledAttention, DisentangledPositionEmbedding, PositionEncoding
from keras_attn.models import EncoderModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import bert
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block
from keras_attn.pretrained.text_heads import text_heads

_PROJECTIONS = ("query", "key", "value")
BLOCK = {
    **{f"attention.self.{x}_proj": f"self_attention/attention/{x}" for x in _PROJECTIONS},
    "attention.self.pos_query_proj": "self_attention/attention/position_query",
    "attention.self.pos_key_proj": "self_attention/attention/position_key",
    **{theirs: ours for theirs, ours in bert.BLOCK.items() if not theirs.startswith("attention.self.")},
}
TENSORS = {
    **{theirs: ours for theirs, ours in bert.TENSORS.items() if not theirs.startswith("encoder.")},
    **block("encoder.layer.*", "encoder/encoder_*", BLOCK),
    "encoder.rel_embeddings.weight": "encoder/encoder_0/relative_position/embeddings",
    "encoder.LayerNorm": "encoder/encoder_0/relative_position/norm",
    "encoder.conv.conv": "encoder/convolution",
    "encoder.conv.LayerNorm": "encoder/convolution_norm",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(
        vocab_size=128100,
        hidden_size=1536,
        num_hidden_layers=24,
        num_attention_heads=24,
        intermediate_size=6144,
        layer_norm_eps=1e-7,
        type_vocab_size=0,
    )
    found = bert.settings(config)
    width = found["hidden_dim"]
    found["convolution"] = _convolution(config, width)
    config.only("embedding_size", width)
    config.only("attention_head_size", width // found["num_heads"])
    # Settings of the pooler, and rates of dropout.
    config.ignore("pooler_dropout", "pooler_hidden_act", "pooler_hidden_size", "cls_dropout", "legacy")
    if not config("relative_attention", False):
        config.ignore("max_relative_positions", "position_buckets", "pos_att_type", "share_att_key", "norm_rel_ebd")
    if not config("position_biased_input", True):
        found["position"] = PositionEncoding(name="position")
    return found | (_relative(config, found) if config("relative_attention", False) else {})


def _convolution(config, width):
    """The convolution beside the first block, or None."""
    size = config.size("conv_kernel_size", 0, minimum=0)
    if not size:
        config.ignore("conv_act", "conv_groups")
        return None
    config.only("conv_groups", 1)
    if size % 2 == 0:
        raise ValueError(f"`config.json` must have an odd number as 'conv_kernel_size'. Received: {size}")
    return keras.layers.Conv1D(width, size, padding="same", activation=activation(config, "conv_act", "tanh"))


def _relative(config, found):
    far, buckets = config("max_relative_positions", -1), config("position_buckets", -1)
    far = config.size("max_position_embeddings", 512) if far < 1 else far
    kinds = config("pos_att_type", None) or ()
    kinds = {x.strip() for x in (kinds.lower().split("|") if isinstance(kinds, str) else kinds)}
    norms = {x.strip() for x in config("norm_rel_ebd", "none").lower().split("|")}
    heads, epsilon = found["num_heads"], found["norm_epsilon"]
    position = DisentangledPositionEmbedding(
        far, buckets if buckets > 0 else None, "layer_norm" in norms, epsilon, name="relative_position"
    )
    attention = DisentangledAttention(
        heads,
        found["hidden_dim"] // heads,
        share_projections=bool(config("share_att_key", False)),
        content_to_position="c2p" in kinds,
        position_to_content="p2c" in kinds,
        dropout=found["attention_dropout"],
    )
    return {"attention": attention, "num_heads": None, "layer_options": [{"position": position}]}


def pooled_options(config: CheckpointConfig) -> dict[str, Any]:
    config.only("pooler_hidden_size", config.size("hidden_size", 1536))
    return {"head_options": {"activation": activation(config, "pooler_hidden_act", "gelu")}}


def masked_lm_options(config: CheckpointConfig) -> dict[str, Any]:
    config.only("legacy", True)
    return {}


DEBERTA_V2 = Family(
    EncoderModel,
    settings,
    TENSORS,
    text_heads(
        "DebertaV2",
        bert.POOLER | bert.CLASSIFIER,
        bert.MASKED_LM,
        pooled_options=pooled_options,
        masked_lm_options=masked_lm_options,
    ),
    prefix="deberta",
    tied=("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    # Of pretraining: its heads, and positions that `position_biased_input` leaves out.
    ignored=(r"embeddings\.position_(ids|embeddings\..*)", r"(lm|mask)_predictions\..*"),
)
