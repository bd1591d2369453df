"""Initial values times a number."""

import keras
from keras import initializers, ops

from keras_attn.layers.base.initializer_copies import cloned


def scaled(initializer, gain):
    """An initializer that gives what `initializer` gives, times `gain`."""
    initializer = initializers.get(initializer)
    if isinstance(initializer, initializers.VarianceScaling):
        # `EinsumDense` tells initializers of this class alone which axes are inputs.
        config = {"mode": initializer.mode, "distribution": initializer.distribution}
        config["seed"] = initializer.get_config()["seed"]
        return initializers.VarianceScaling(scale=initializer.scale * gain**2, **config)
    return ScaledInitializer(initializer, gain)


@keras.saving.register_keras_serializable(package="keras_attn")
class ScaledInitializer(initializers.Initializer):
    """What another initializer gives, times `scale`. `scaled` chooses it where nothing simpler will do.

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
