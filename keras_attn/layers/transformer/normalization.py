"""The kinds of normalisation that blocks and stacks can be given."""

import keras

from keras_attn.layers.transformer.layer_normalization import LayerNormalization

_KINDS = {"layer": LayerNormalization, "rms": keras.layers.RMSNormalization}


def normalization(kind, epsilon, dtype, name):
    """A Keras normalisation layer over the last axis; both kinds compute in float32 at least.

    Args:
        kind: "layer" for `LayerNormalization`, "rms" for `keras.layers.RMSNormalization`.
        epsilon: Added to the variance, or to the mean square.
        dtype: Dtype policy of the layer.
        name: Name of the layer.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in _KINDS:
        names = ", ".join(map(repr, _KINDS))
        raise ValueError(f"`norm_layer` must be one of {names}. Received: norm_layer={kind!r}")
    layer = _KINDS[kind](epsilon=epsilon, dtype=dtype, name=name)
    # Keras' RMS norm warns that it destroys the mask, as it does not say that it lets it through.
    layer.supports_masking = True
    return layer
