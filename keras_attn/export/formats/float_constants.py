"""Constants of layers that every precision keeps in float32."""

import dataclasses

import numpy as np

from keras_attn import compat


@dataclasses.dataclass(frozen=True)
class FloatConstant:
    """A constant with the attributes of a variable that artefacts are searched for.

    Args:
        path: Path of the layer and name of the constant.
        value: Float32 array.
    """

    path: str
    value: np.ndarray

    @property
    def shape(self):
        return self.value.shape

    def __array__(self, dtype=None, copy=None):
        return self.value if dtype is None else self.value.astype(dtype)


def float_constants(model):
    """The `float_constants` of all layers, `{name: array}` each: matrices of a transform, which are no weights."""
    return [
        FloatConstant(f"{layer.path}/{name}", np.asarray(value, "float32"))
        for layer in compat.layers_of(model)
        for name, value in getattr(layer, "float_constants", {}).items()
    ]
