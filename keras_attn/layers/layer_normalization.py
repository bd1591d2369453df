"""`keras_attn.layers.base.layer_normalization`, by a shorter name."""

from keras_attn.layers.base.layer_normalization import LayerNormalization

__all__ = ["LayerNormalization"]
