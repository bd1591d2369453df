"""ELECTRA: [Clark et al., 2020](https://arxiv.org/abs/2003.10555)."""

from typing import Any

from keras_attn.models import EncoderModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import bert, roberta
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.text_heads import text_heads

MASKED_LM = {
    "generator_predictions.dense": "transform",
    "generator_predictions.LayerNorm": "transform_norm",
    "generator_lm_head.bias": "embedding/bias",
}
DISCRIMINATOR = Head(
    "ElectraForPreTraining",
    {"discriminator_predictions.dense": "transform", "discriminator_predictions.dense_prediction": "classifier"},
    lambda config, _: {"head": "replaced_token_detection"},
)


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(hidden_size=256, num_attention_heads=4, intermediate_size=1024)
    config.ignore(*(f"summary_{x}" for x in ("type", "use_proj", "activation", "last_dropout")))
    config.ignore("generator_size", "generator_hidden_size")
    found, width = bert.settings(config), config.size("embedding_size", 128)
    return {**found, "embedding_dim": None if width == found["hidden_dim"] else width}


def choice_options(config: CheckpointConfig) -> dict[str, Any]:
    config.only("summary_type", "first")
    config.only("summary_use_proj", True)
    name = config("summary_activation", "gelu")
    return {"head_options": {"activation": activation(config, "summary_activation", "gelu") if name else "linear"}}


ELECTRA = Family(
    EncoderModel,
    settings,
    {**bert.TENSORS, "embeddings_project": "embedding_projection"},
    {
        **text_heads(
            "Electra",
            roberta.POOLED,
            MASKED_LM,
            choice={"sequence_summary.summary": "pooler", **bert.CLASSIFIER},
            pooled_options=roberta.gelu,
            choice_options=choice_options,
            masked_lm_options=roberta.gelu,
        ),
        "replaced_token_detection": DISCRIMINATOR,
    },
    prefix="electra",
    tied=("generator_lm_head.weight", "embeddings.word_embeddings.weight"),
    ignored=(r"embeddings\.position_ids",),
)
