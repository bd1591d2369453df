"""Where `LayerNormalization` was found before the package had sub-packages."""

from keras_attn.layers.transformer.layer_normalization import LayerNormalization

__all__ = ["LayerNormalization"]
