"""ModernBERT: [Warner et al., 2024](https://arxiv.org/abs/2412.13663)."""

from typing import Any

from keras_attn.layers import (
    ClassificationHead,
    FirstTokenPooling,
    GatedFeedForward,
    MeanPooling,
    PositionEncoding,
)
from keras_attn.models import EncoderModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.layer_types import FULL, SLIDING, layer_types
from keras_attn.pretrained.rope import rope
from keras_attn.pretrained.rows import block, split
from keras_attn.pretrained.text_heads import text_heads

_PROJECTIONS = ("query", "key", "value")
BLOCK = {
    "attn_norm": "self_attention/norm_before",
    "attn.Wqkv": split(*(f"self_attention/attention/{name}" for name in _PROJECTIONS)),
    "attn.Wo": "self_attention/attention/attention_output",
    "mlp_norm": "feed_forward/norm_before",
    "mlp.Wi": split("feed_forward/network/gate", "feed_forward/network/intermediate"),
    "mlp.Wo": "feed_forward/network/output",
}
TENSORS = {
    "embeddings.tok_embeddings.weight": "embedding/embeddings",
    "embeddings.norm": "embedding_norm",
    **block("layers.*", "encoder/encoder_*", BLOCK),
    "final_norm": "encoder/final_norm",
}
POOLED = {"head.dense": "pooler", "head.norm": "pooler_norm", "classifier": "classifier"}
PER_TOKEN = {"head.dense": "head/hidden", "head.norm": "head/norm", "classifier": "head/classifier"}
MASKED_LM = {"head.dense": "transform", "head.norm": "transform_norm", "decoder.bias": "embedding/bias"}
_THETAS = {FULL: ("global_rope_theta", 160000.0), SLIDING: ("local_rope_theta", 10000.0)}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    count = config.size("num_hidden_layers", 22)
    every = config.size("global_attn_every_n_layers", 3)
    config.entries.setdefault("num_hidden_layers", count)
    kinds = layer_types(config, lambda i: i % every != 0)
    ropes = {kind: rope(config, kind, base=config.number(*_THETAS[kind])) for kind in dict.fromkeys(kinds)}
    window = config.size("local_attention", 128) // 2 + 1
    per_layer = [{"position": ropes[x], "window": window if x == SLIDING else None} for x in kinds]
    per_layer[0]["norm"] = {"self_attention": None, "feed_forward": "pre"}
    # How `transformers` runs the model, heads of other tasks, and entries that it does not read.
    config.ignore("deterministic_flash_attn", "reference_compile", "repad_logits_with_grad")
    config.ignore("sparse_prediction", "sparse_pred_ignore_index", "layer_norm_eps", "position_embedding_type")
    config.ignore(
        "tie_word_embeddings", "decoder_bias", *(f"classifier_{x}" for x in ("activation", "bias", "pooling"))
    )
    return {
        "vocabulary_size": config.size("vocab_size", 50368),
        "num_layers": count,
        "hidden_dim": config.size("hidden_size", 768),
        "num_heads": config.size("num_attention_heads", 12),
        "feed_forward": GatedFeedForward(
            config.size("intermediate_size", 1152),
            activation=activation(config, "hidden_activation", "gelu"),
            dropout=config.number("mlp_dropout", 0.0),
            use_bias=bool(config("mlp_bias", False)),
        ),
        "norm": "pre",
        "norm_layer": norm_layer(config),
        "norm_epsilon": config.number("norm_eps", 1e-5),
        "use_attention_bias": bool(config("attention_bias", False)),
        "dropout": config.number("embedding_dropout", 0.0),
        "attention_dropout": config.number("attention_dropout", 0.0),
        "position": PositionEncoding(name="position"),
        "layer_options": per_layer,
    }


def norm_layer(config: CheckpointConfig) -> Any:
    return "layer" if config("norm_bias", False) else "layer_no_bias"


def dense(config: CheckpointConfig) -> Any:
    return {
        "activation": activation(config, "classifier_activation", "gelu"),
        "use_bias": bool(config("classifier_bias", False)),
    }


def pooled_options(config: CheckpointConfig) -> dict[str, Any]:
    config.only("classifier_pooling", "cls", "mean")
    pooling = {"cls": FirstTokenPooling, "mean": MeanPooling}[config("classifier_pooling", "cls")]
    return {"pooling": pooling(name="pooling"), "head_options": {**dense(config), "norm": True}}


def masked_lm_options(config: CheckpointConfig) -> dict[str, Any]:
    config.only("decoder_bias", True)
    return {"head_options": dense(config)}


def per_token(config: CheckpointConfig, num_classes: Any) -> Any:
    options = dense(config)
    head = ClassificationHead(
        num_classes,
        hidden_dim=config.size("hidden_size", 768),
        activation=options["activation"],
        use_hidden_bias=options["use_bias"],
        norm_layer=norm_layer(config),
        norm_epsilon=config.number("norm_eps", 1e-5),
        name="head",
    )
    return {"head": head}


HEADS = text_heads("ModernBert", POOLED, MASKED_LM, pooled_options=pooled_options, masked_lm_options=masked_lm_options)
MODERNBERT = Family(
    EncoderModel,
    settings,
    TENSORS,
    {
        **HEADS,
        "token_classification": Head(
            "ModernBertForTokenClassification",
            PER_TOKEN,
            lambda config, num_classes: {**per_token(config, num_classes), "labels": config.labels},
            "classifier.weight",
        ),
        "question_answering": Head("ModernBertForQuestionAnswering", PER_TOKEN, lambda config, _: per_token(config, 2)),
    },
    prefix="model",
    tied=("decoder.weight", "embeddings.tok_embeddings.weight"),
)
