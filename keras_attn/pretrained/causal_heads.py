"""The heads of families of language models."""

from __future__ import annotations

from typing import Any

from keras_attn.layers import ClassificationHead, LastTokenPooling
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.conversions import CAUSAL_ENCODER
from keras_attn.pretrained.family import Head, Table


def causal_heads(causal_lm: str, tensors: Table, name: str | None = None) -> dict[str, Head]:
    """The heads by task.

    Args:
        causal_lm: The class with logits of tokens.
        tensors: Its rows of the table.
        name: How the names of the other classes begin. Defaults to that of `causal_lm`.
    """
    name = causal_lm.removesuffix("ForCausalLM") if name is None else name
    classifier = f"{name}ForSequenceClassification"
    return {
        "causal_lm": Head(causal_lm, tensors),
        "base": Head(f"{name}Model", conversion=CAUSAL_ENCODER),
        "sequence_classification": Head(
            classifier, {"score": "head/classifier"}, _classifier, "score.weight", conversion=CAUSAL_ENCODER
        ),
    }


def _classifier(config: CheckpointConfig, num_classes: int | None) -> dict[str, Any]:
    head = ClassificationHead(num_classes, pooling=LastTokenPooling(), use_bias=False, name="head")
    return {"head": head, "labels": config.labels}
