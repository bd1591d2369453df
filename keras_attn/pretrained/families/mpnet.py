"""MPNet: [Song et al., 2020](https://arxiv.org/abs/2004.09297)."""

import dataclasses
from typing import Any

from keras_attn.layers import LearnedPositionEmbedding, RelativePositionBias
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import bert, roberta
from keras_attn.pretrained.rows import block, skip_rows

BLOCK = {
    "attention.attn.q": "self_attention/attention/query",
    "attention.attn.k": "self_attention/attention/key",
    "attention.attn.v": "self_attention/attention/value",
    "attention.attn.o": "self_attention/attention/attention_output",
    "attention.LayerNorm": "self_attention/norm_after",
    **{theirs: ours for theirs, ours in bert.BLOCK.items() if not theirs.startswith("attention.")},
}
# The rows of positions for padding.
_SKIPPED = 2
TENSORS = {
    "embeddings.word_embeddings.weight": "embedding/embeddings",
    "embeddings.position_embeddings": skip_rows("position", _SKIPPED),
    "embeddings.LayerNorm": "embedding_norm",
    "encoder.relative_attention_bias": "encoder/encoder_0/self_attention/attention/relative_position",
    **block("encoder.layer.*", "encoder/encoder_*", BLOCK),
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.only("relative_attention_num_buckets", 32)
    config.set_defaults(vocab_size=30527)
    found = bert.settings(config)
    length = config.size("max_position_embeddings", 512) - _SKIPPED
    bias = RelativePositionBias(found["num_heads"], 32, 128, name="relative_position")
    return {
        **found,
        "num_token_types": 0,
        "position": LearnedPositionEmbedding(length, name="position"),
        "layer_options": [{"position": bias}],
    }


MPNET = dataclasses.replace(
    roberta.ROBERTA, settings=settings, tensors=TENSORS, heads=roberta.heads("MPNet"), prefix="mpnet"
)
