"""The linear map of attention and feed-forward layers, computed as one 2-D matrix product."""

import contextlib
import contextvars
import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_attn")
class Projection(keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` that multiplies a 2-D view of its inputs with a 2-D view of its kernel.

    Same arguments, weights and results; the graph holds one matrix product in place of an einsum or a Tensordot, so
    that training graphs and exported graphs stay half as long. `enable_lora` and `quantize("int8")` work as they do
    on the parent. The equation must contract the last axes of the inputs with the first axes of the kernel, as
    `"abc,cde->abde"` and `"abde,dec->abc"` do.

    Args:
        equation: einsum equation, see `keras.layers.EinsumDense`.
        output_shape: see `keras.layers.EinsumDense`.
        **kwargs: every other argument of `keras.layers.EinsumDense`.

    Call arguments:
        inputs: float `(B, T, ...)`.

    Returns:
        Float tensor, shape as the equation says.

    Raises:
        ValueError: the equation is not such a matrix product.

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import Projection
    >>> to_heads = Projection("abc,cde->abde", output_shape=(None, 4, 8), bias_axes="de")
    >>> tuple(to_heads(np.ones((2, 5, 32), "float32")).shape)
    (2, 5, 4, 8)
    """

    def __init__(self, equation, output_shape, **kwargs):
        super().__init__(equation, output_shape, **kwargs)
        self.supports_masking = True
        operands, result = equation.split("->")
        inputs, kernel = operands.split(",")
        contracted = [axis for axis in inputs if axis not in result]
        self._num_contracted = len(contracted)
        batch, outputs = inputs[: -len(contracted)], kernel[len(contracted) :]
        if (
            not contracted
            or inputs + kernel != f"{batch}{''.join(contracted) * 2}{outputs}"
            or result != batch + outputs
        ):
            raise ValueError(
                "`equation` must contract the last axes of the inputs with the first axes of the kernel, as in "
                f"'abc,cde->abde'. Received: equation={equation!r}"
            )

    def call(self, inputs, training=None):
        shape = ops.shape(inputs)
        lead = shape[: -self._num_contracted]
        prepared = (_matrices.get() or {}).get(self.path)
        matrix = self._matrix() if prepared is None else prepared
        outputs = tuple(self._kernel.shape)[self._num_contracted :]
        flat = ops.matmul(ops.reshape(inputs, (-1, matrix.shape[0])), matrix)
        if self.bias is not None:
            bias = self.bias if tuple(self.bias.shape) == outputs else ops.broadcast_to(self.bias, outputs)
            flat = ops.add(flat, ops.reshape(bias, (-1,)))
        # With -1 for the batch, only a dynamic length costs the graph a shape computation.
        y = ops.reshape(flat, (-1, *lead[1:], *outputs))
        return y if self.activation is None else self.activation(y)

    def _matrix(self):
        kernel = self.kernel
        return ops.reshape(kernel, (math.prod(kernel.shape[: self._num_contracted]), -1))

    def compute_output_shape(self, inputs_shape):
        lead = tuple(inputs_shape[: -self._num_contracted])
        return (*lead, *super().compute_output_shape(inputs_shape)[len(lead) :])

    def quantize(self, mode=None, type_check=True, config=None):
        """As `keras.layers.EinsumDense.quantize`, which refuses subclasses unless told otherwise."""
        return super().quantize(mode, type_check=False, config=config)


@contextlib.contextmanager
def prepared_matrices(model):
    """Within the scope, the projections in `model` multiply by matrices made at its start.

    For a loop under XLA, which would lay out a kernel that is reshaped inside anew at every step.
    """
    found = [layer for layer in model._flatten_layers() if isinstance(layer, Projection)]
    found = [layer for layer in found if layer.built and layer.quantization_mode is None]
    token = _matrices.set({layer.path: ops.cast(layer._matrix(), layer.compute_dtype) for layer in found})
    try:
        yield
    finally:
        _matrices.reset(token)


_matrices = contextvars.ContextVar("keras_attn_prepared_matrices", default=None)
