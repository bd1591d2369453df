"""DistilBERT: [Sanh et al., 2019](https://arxiv.org/abs/1910.01108)."""

from typing import Any

from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import EncoderModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families.bert import CLASSIFIER
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block
from keras_attn.pretrained.text_heads import text_heads

BLOCK = {
    "attention.q_lin": "self_attention/attention/query",
    "attention.k_lin": "self_attention/attention/key",
    "attention.v_lin": "self_attention/attention/value",
    "attention.out_lin": "self_attention/attention/attention_output",
    "sa_layer_norm": "self_attention/norm_after",
    "ffn.lin1": "feed_forward/network/intermediate",
    "ffn.lin2": "feed_forward/network/output",
    "output_layer_norm": "feed_forward/norm_after",
}
TENSORS = {
    "embeddings.word_embeddings.weight": "embedding/embeddings",
    "embeddings.position_embeddings": "position",
    "embeddings.LayerNorm": "embedding_norm",
    **block("transformer.layer.*", "encoder/encoder_*", BLOCK),
}
MASKED_LM = {
    "vocab_transform": "transform",
    "vocab_layer_norm": "transform_norm",
    "vocab_projector.bias": "embedding/bias",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    # Sinusoidal positions are stored as a table too.
    config.ignore("sinusoidal_pos_embds", "tie_word_embeddings", "tie_weights_", "qa_dropout", "seq_classif_dropout")
    config.only("pruned_heads", {})
    return {
        "vocabulary_size": config.size("vocab_size", 30522),
        "num_layers": config.size("n_layers", 6),
        "hidden_dim": config.size("dim", 768),
        "num_heads": config.size("n_heads", 12),
        "intermediate_dim": config.size("hidden_dim", 4 * 768),
        "activation": activation(config, "activation", "gelu"),
        "norm_epsilon": 1e-12,
        "dropout": config.number("dropout", 0.1),
        "attention_dropout": config.number("attention_dropout", 0.1),
        "position": LearnedPositionEmbedding(config.size("max_position_embeddings", 512), name="position"),
    }


DISTILBERT = Family(
    EncoderModel,
    settings,
    TENSORS,
    text_heads(
        "DistilBert",
        {"pre_classifier": "pooler", **CLASSIFIER},
        MASKED_LM,
        pooled_options=lambda config: {"head_options": {"activation": "relu"}},
    ),
    prefix="distilbert",
    tied=("vocab_projector.weight", "embeddings.word_embeddings.weight"),
    ignored=(r"embeddings\.position_ids",),
)
