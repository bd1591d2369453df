"""`keras_attn.layers.base.layer_normalization`, under the name in older files."""

from keras_attn.layers.base.layer_normalization import LayerNormalization

__all__ = ["LayerNormalization"]
