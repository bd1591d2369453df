"""ALBERT: [Lan et al., 2020](https://arxiv.org/abs/1909.11942)."""

from typing import Any

from keras_attn.models import EncoderModel
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import bert
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block
from keras_attn.pretrained.text_heads import text_heads

BLOCK = {
    "attention.query": "self_attention/attention/query",
    "attention.key": "self_attention/attention/key",
    "attention.value": "self_attention/attention/value",
    "attention.dense": "self_attention/attention/attention_output",
    "attention.LayerNorm": "self_attention/norm_after",
    "ffn": "feed_forward/network/intermediate",
    "ffn_output": "feed_forward/network/output",
    "full_layer_layer_norm": "feed_forward/norm_after",
}
BODY = {
    **{theirs: ours for theirs, ours in bert.TENSORS.items() if not theirs.startswith("encoder.")},
    "encoder.embedding_hidden_mapping_in": "embedding_projection",
}
MASKED_LM = {
    "predictions.dense": "transform",
    "predictions.LayerNorm": "transform_norm",
    "predictions.bias": "embedding/bias",
}
DEFAULTS = {
    "vocab_size": 30000,
    "hidden_size": 4096,
    "num_attention_heads": 64,
    "intermediate_size": 16384,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def groups(config: CheckpointConfig) -> Any:
    """`(groups, blocks per group)`. Each group follows itself several times, as a whole."""
    return config.size("num_hidden_groups", 1), config.size("inner_group_num", 1)


def tensors(config: CheckpointConfig) -> Any:
    rows, (num_groups, num_blocks) = dict(BODY), groups(config)
    for i in range(num_groups * num_blocks):
        theirs = f"encoder.albert_layer_groups.{i // num_blocks}.albert_layers.{i % num_blocks}"
        rows |= block(theirs, f"encoder/encoder_{i}", BLOCK)
    return rows


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.only("layers_to_keep", [])
    # Of the first release; they are not used.
    config.ignore("gap_size", "num_memory_blocks", "net_structure_type", "down_scale_factor")
    config.set_defaults(**DEFAULTS)
    found, (num_groups, num_blocks) = bert.settings(config), groups(config)
    count = found["num_layers"]
    if num_groups > count:
        raise ValueError(
            f"`config.json` must have at most the {count} layers of 'num_hidden_layers' as 'num_hidden_groups'. "
            f"Received: {num_groups}"
        )
    order = [int(i / (count / num_groups)) * num_blocks + j for i in range(count) for j in range(num_blocks)]
    return {
        **found,
        "num_layers": len(order),
        "embedding_dim": config.size("embedding_size", 128),
        "share_weights": order if max(order) else True,
    }


ALBERT = Family(
    EncoderModel,
    settings,
    tensors,
    text_heads("Albert", {"pooler": "pooler", **bert.CLASSIFIER}, MASKED_LM, body=("pooler",)),
    prefix="albert",
    tied=("predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    ignored=(r"embeddings\.position_ids", r"sop_classifier\..*"),
)
