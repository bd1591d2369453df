"""What a precision makes of a Keras model's weights, tried in the Keras model itself."""

import contextlib
import dataclasses
import math

import numpy as np

from keras_attn import compat
from keras_attn.export.formats.onnx.quantization import levels_of_blocks


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A weight that a precision makes smaller.

    Args:
        variable: the Keras variable.
        rows: number of its first axes that a product sums over; `None` for a table that is looked up in.
    """

    variable: object
    rows: int | None

    def rounded(self, precision, levels):
        """The values that an artefact computes with.

        Args:
            precision: name of the precision.
            levels: largest integer of an int8 weight.
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
            # A product has a scale for each of its outputs, a table one for all.
            largest = np.max(np.abs(matrix), axis=None if self.rows is None else 0, keepdims=True)
            scales = np.where(largest == 0, 1, largest / levels)
            matrix = np.rint(matrix / scales) * scales
        return matrix.reshape(value.shape).astype("float32")

    def _shape(self, value):
        return math.prod(value.shape[: self.rows]), -1


def matrices(model, precision):
    """The `Matrix` of every weight of a model that a precision makes smaller, in the order of the layers.

    Biases, norms and whatever else is no matrix stays in float32; so do tables in int4.
    """
    import keras

    owners = {}
    # The layer that holds fewest weights is the one that uses them.
    for layer in sorted(compat.layers_of(model), key=lambda layer: -len(layer.variables)):
        owners.update({variable.path: layer for variable in layer.variables})
    found = []
    for variable in model.variables:
        layer = owners[variable.path]
        is_table = isinstance(layer, keras.layers.Embedding) and variable.path.endswith("/embeddings")
        if variable.dtype != "float32" or len(variable.shape) < 2 or variable.path.rpartition("/")[2] == "bias":
            continue
        if not (is_table and precision == "int4"):
            rows = getattr(layer, "_num_contracted", len(variable.shape) - 1)
            found.append(Matrix(variable, None if is_table else rows))
    return found


@contextlib.contextmanager
def quantised(chosen, precision, levels):
    """Within the scope, the weights of some `Matrix` are those of a precision."""
    originals = [(matrix.variable, np.array(matrix.variable)) for matrix in chosen]
    try:
        for matrix in chosen:
            matrix.variable.assign(matrix.rounded(precision, levels))
        yield
    finally:
        for variable, value in originals:
            variable.assign(value)
