"""The normalisation layers of blocks and stacks."""

import functools

import keras

from keras_attn.layers.base.layer_normalization import LayerNormalization

_KINDS = {
    "layer": LayerNormalization,
    "rms": keras.layers.RMSNormalization,
    "layer_no_bias": functools.partial(LayerNormalization, center=False),
}


def normalization(kind, epsilon, dtype, name):
    """A Keras normalisation layer over the last axis, computed in float32 or float64.

    Args:
        kind: "layer" for `LayerNormalization`, "layer_no_bias" for one without `beta`, "rms" for
            `keras.layers.RMSNormalization`.
        epsilon: Added to the variance, or to the mean square.
        dtype: Dtype policy of the layer.
        name: Name of the layer.

    Raises:
        ValueError: If `kind` is unknown.
    """
    if kind not in _KINDS:
        names = ", ".join(map(repr, _KINDS))
        raise ValueError(f"`norm_layer` must be one of {names}. Received: norm_layer={kind!r}")
    layer = _KINDS[kind](epsilon=epsilon, dtype=dtype, name=name)
    # Keras' RMS norm does not declare that it supports masks, and warns that it removes them.
    layer.supports_masking = True
    return layer
