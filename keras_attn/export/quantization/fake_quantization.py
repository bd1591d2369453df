"""Fake quantisation of the weights of a Keras model."""

import contextlib
import dataclasses
import math

import numpy as np

from keras_attn import compat
from keras_attn.export.formats.onnx.quantization import levels_of_blocks


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A weight that a precision quantises.

    Args:
        variable: The Keras variable.
        rows: Number of leading axes that a matrix product contracts; `None` for an embedding table.
    """

    variable: object
    rows: int | None

    def rounded(self, precision, levels):
        """The dequantised values, as an artefact uses them.

        Args:
            precision: Name of the precision.
            levels: Largest integer of an int8 weight.
        """
        value = np.asarray(self.variable)
        if precision == "float16":
            limit = np.finfo("float16").max
            return np.clip(value, -limit, limit).astype("float16").astype("float32")
        matrix = value.reshape(-1, value.shape[-1]) if self.rows is None else value.reshape(self._shape(value))
        if precision == "int4":
            whole, scales = levels_of_blocks(matrix)
            matrix = (whole * scales[..., None]).reshape(matrix.shape[1], -1)[:, : len(matrix)].T
        else:
            # A matrix has one scale per output, a table a single scale.
            largest = np.max(np.abs(matrix), axis=None if self.rows is None else 0, keepdims=True)
            scales = np.where(largest == 0, 1, largest / levels)
            matrix = np.rint(matrix / scales) * scales
        return matrix.reshape(value.shape).astype("float32")

    def _shape(self, value):
        return math.prod(value.shape[: self.rows]), -1


def matrices(model, precision):
    """A `Matrix` per weight of a model that a precision quantises, in the order of the layers.

    Biases, norms and other vectors stay in float32; so do embedding tables in int4.
    """
    import keras

    owners = {}
    # Of the layers that contain a weight, the one with the fewest weights uses it.
    for layer in sorted(compat.layers_of(model), key=lambda layer: -len(layer.variables)):
        owners.update({variable.path: layer for variable in layer.variables})
    found = []
    for variable in model.variables:
        layer = owners[variable.path]
        is_table = isinstance(layer, keras.layers.Embedding) and variable.path.endswith("/embeddings")
        if variable.dtype != "float32" or len(variable.shape) < 2 or variable.path.rpartition("/")[2] == "bias":
            continue
        if not (is_table and precision == "int4"):
            rows = getattr(layer, "num_contracted", len(variable.shape) - 1)
            found.append(Matrix(variable, None if is_table else rows))
    return found


@contextlib.contextmanager
def quantised(chosen, precision, levels):
    """Scope in which the chosen matrices have quantised values."""
    originals = [(matrix.variable, np.array(matrix.variable)) for matrix in chosen]
    try:
        for matrix in chosen:
            matrix.variable.assign(matrix.rounded(precision, levels))
        yield
    finally:
        for variable, value in originals:
            variable.assign(value)
