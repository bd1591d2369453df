"""`keras_attn.layers.base.normalization`, under its older name."""

from keras_attn.layers.base.normalization import normalization

__all__ = ["normalization"]
