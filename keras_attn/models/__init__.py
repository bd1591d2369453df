"""Functional models composed of the layers, each with `encode`, `prefill` and `decode` beside `call`."""

from keras_attn.models.attention_maps import attention_maps
from keras_attn.models.transformer import Transformer

__all__ = ["Transformer", "attention_maps"]
