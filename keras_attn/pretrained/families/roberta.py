"""RoBERTa: [Liu et al., 2019](https://arxiv.org/abs/1907.11692); XLM-R and CamemBERT are the same."""

import dataclasses
from typing import Any

from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import EncoderModel
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import bert
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import skip_rows
from keras_attn.pretrained.text_heads import text_heads

POOLED = {"classifier.dense": "pooler", "classifier.out_proj": "classifier"}
MASKED_LM = {
    "lm_head.dense": "transform",
    "lm_head.layer_norm": "transform_norm",
    "lm_head.bias": "embedding/bias",
}


def gelu(config: CheckpointConfig) -> Any:
    return {"head_options": {"activation": "gelu"}}


def first_position(config: CheckpointConfig) -> Any:
    """The row of the first token's position; those before it are for padding."""
    return config.size("pad_token_id", 1, minimum=0) + 1


def settings(config: CheckpointConfig) -> dict[str, Any]:
    length = config.size("max_position_embeddings", 512) - first_position(config)
    return {**bert.settings(config), "position": LearnedPositionEmbedding(length, name="position")}


def tensors(config: CheckpointConfig) -> Any:
    return {**bert.TENSORS, "embeddings.position_embeddings": skip_rows("position", first_position(config))}


def heads(name: Any) -> Any:
    return text_heads(
        name,
        POOLED,
        MASKED_LM,
        choice=bert.POOLER | bert.CLASSIFIER,
        body=("pooler.dense",),
        masked_lm_options=gelu,
    )


ROBERTA = Family(
    EncoderModel,
    settings,
    tensors,
    heads("Roberta"),
    prefix="roberta",
    tied=("lm_head.decoder.weight", "embeddings.word_embeddings.weight"),
    ignored=(r"embeddings\.position_ids",),
)
XLM_ROBERTA = dataclasses.replace(ROBERTA, heads=heads("XLMRoberta"))
CAMEMBERT = dataclasses.replace(ROBERTA, heads=heads("Camembert"))
