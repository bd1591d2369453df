"""Initializers scaled by a factor."""

import keras
from keras import initializers, ops

from keras_attn.layers.base.initializer_copies import cloned


def scaled(initializer, gain):
    """An initializer with the values of `initializer`, times `gain`."""
    initializer = initializers.get(initializer)
    if isinstance(initializer, initializers.VarianceScaling):
        # Kept in this class, the only one to which `EinsumDense` passes the input axes.
        config = {"mode": initializer.mode, "distribution": initializer.distribution}
        config["seed"] = initializer.get_config()["seed"]
        return initializers.VarianceScaling(scale=initializer.scale * gain**2, **config)
    return ScaledInitializer(initializer, gain)


@keras.saving.register_keras_serializable(package="keras_attn")
class ScaledInitializer(initializers.Initializer):
    """The values of another initializer, times `scale`. Used by `scaled` if there is no simpler way.

    Args:
        initializer: A Keras initializer, or its name.
        scale: The factor.

    Example:

    >>> from keras_attn.layers.transformer.scaled_initializer import ScaledInitializer
    >>> ScaledInitializer("ones", 0.5)((2,)).numpy()
    array([0.5, 0.5], dtype=float32)
    """

    def __init__(self, initializer, scale):
        self.initializer = initializers.get(initializer)
        self.scale = scale

    def __call__(self, shape, dtype=None):
        return ops.multiply(self.initializer(shape, dtype=dtype), self.scale)

    def clone(self):
        return type(self)(cloned(self.initializer), self.scale)

    def get_config(self):
        return {"initializer": initializers.serialize(self.initializer), "scale": self.scale}
