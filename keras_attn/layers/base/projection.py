"""The linear map of attention and feed-forward layers, computed as one 2-D matrix product."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_attn import compat
from keras_attn.layers.base.freezable import set_own_trainable
from keras_attn.layers.base.lora import Lora
from keras_attn.ops.arrays import add, reshape, reshape_as
from keras_attn.plain_numbers import PlainNumbers
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Projection(PlainNumbers, Lora, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense`, computed as one product of 2-D matrices.

    Same arguments, weights and results. Graphs hold one matrix product instead of an einsum, which halves the size of
    training and exported graphs. `enable_lora` and `quantize("int8")` work as on the parent class, except that LoRA
    matrices are saved unmerged. `merge_lora()` adds their product to the kernel.

    Args:
        equation: Einsum equation, see `keras.layers.EinsumDense`. It must contract the last axes of the inputs with the
            first axes of the kernel, as `"abc,cde->abde"` and `"abde,dec->abc"` do.
        output_shape: See `keras.layers.EinsumDense`.
        **kwargs: Other arguments of `keras.layers.EinsumDense`.

    Call arguments:
        inputs: Float `(B, T, ...)`.

    Returns:
        Float tensor, with the shape that the equation gives.

    Raises:
        ValueError: If the equation is not such a matrix product.

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import Projection
    >>> to_heads = Projection("abc,cde->abde", output_shape=(None, 4, 8), bias_axes="de")
    >>> tuple(to_heads(np.ones((2, 5, 32), "float32")).shape)
    (2, 5, 4, 8)
    """

    def __init__(self, equation: str, output_shape: int | Sequence[int | None], **kwargs: Any) -> None:
        super().__init__(equation, output_shape, **kwargs)
        self.supports_masking = True
        operands, result = equation.split("->")
        inputs, kernel = operands.split(",")
        contracted = [axis for axis in inputs if axis not in result]
        self.num_contracted = len(contracted)
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

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.quantization_mode == "float8":
            # After `quantize`, kernel and bias precede the scales; keep that order so that optimizer states fit.
            compat.put_first(self, ("kernel", "bias"))

    @property
    def kernel(self) -> Tensor:
        """The kernel, with the product of the LoRA matrices."""
        if not (self.lora_enabled and self.lora_as_matrix):
            return super().kernel
        stored = compat.stored_weights(self)
        change = ops.multiply(ops.matmul(*self._lora_matrices()), self.lora_alpha / self.lora_rank)
        return ops.cast(ops.add(stored, reshape(change, stored.shape)), self.compute_dtype)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
        as_matrix: bool = False,
    ) -> None:
        """Same as `keras.layers.EinsumDense.enable_lora`, and with `as_matrix` as in the paper and in PEFT.

        Keras treats a kernel `(inputs, heads, head_dim)` as one matrix per head, which share the second LoRA matrix.

        Args:
            rank, lora_alpha, a_initializer, b_initializer: See `keras.layers.EinsumDense.enable_lora`.
            as_matrix: Whether the kernel counts as one matrix, of all inputs and all outputs, and the bias is
                frozen too.

        Raises:
            ValueError: If the layer has LoRA already, or with `as_matrix`, if it is quantised.

        Reference:
            [Hu et al., 2021](https://arxiv.org/abs/2106.09685)
        """
        if as_matrix and self.quantization_mode is not None:
            raise ValueError(
                "`as_matrix` must be False for a quantised layer: enable LoRA before `quantize`, or without it. "
                f"Received: as_matrix=True, quantization_mode={self.quantization_mode!r}"
            )
        super().enable_lora(rank, lora_alpha, a_initializer, b_initializer)
        if as_matrix:
            rows = math.prod(compat.stored_weights(self).shape[: self.num_contracted])
            compat.replace_weight(self, "lora_kernel_a", (rows, rank), a_initializer)
            compat.replace_weight(self, "lora_kernel_b", (rank, math.prod(self._outputs)), b_initializer)
            self.lora_as_matrix = True
            set_own_trainable(self, self.trainable)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        packed = (_packed.get() or {}).get(id(self))
        matrix, negative_bias = packed or (self._matrix(), None)
        rows = inputs if len(inputs.shape) == 2 and self.num_contracted == 1 else reshape(inputs, (-1, matrix.shape[0]))
        flat = ops.matmul(rows, matrix)
        if negative_bias is not None:
            flat = ops.subtract(flat, negative_bias)
        elif self.bias is not None and not self._bias_has_lead:
            flat = ops.add(flat, self._flat_bias())
        num_lead = len(inputs.shape) - self.num_contracted
        y = flat if num_lead == len(self._outputs) == 1 else reshape_as(flat, inputs, num_lead, *self._outputs)
        if self._bias_has_lead:
            y = add(y, self.bias)
        return y if self.activation is None else self.activation(y)

    @property
    def _outputs(self):
        return tuple(compat.stored_weights(self).shape)[self.num_contracted :]

    @property
    def _bias_has_lead(self):
        """Whether the bias also varies along axes of the inputs."""
        return self.bias is not None and len(self.bias.shape) > len(self._outputs)

    def _matrix(self):
        kernel = self.kernel
        if len(kernel.shape) == 2 and self.num_contracted == 1:
            return kernel
        return reshape(kernel, (math.prod(kernel.shape[: self.num_contracted]), -1))

    def _flat_bias(self):
        bias = self.bias if tuple(self.bias.shape) == self._outputs else ops.broadcast_to(self.bias, self._outputs)
        return bias if len(bias.shape) == 1 else reshape(bias, (-1,))

    def _pack(self):
        has_none = self.bias is None or self._bias_has_lead
        bias = None if has_none else ops.negative(ops.cast(self._flat_bias(), self.compute_dtype))
        return ops.cast(self._matrix(), self.compute_dtype), bias

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        lead = tuple(input_shape[: -self.num_contracted])
        return (*lead, *super().compute_output_shape(input_shape)[len(lead) :])

    def quantize(self, mode: str | None = None, type_check: bool = True, config: Any = None) -> None:
        """Same as `keras.layers.EinsumDense.quantize`, which rejects subclasses by default."""
        if self.lora_enabled and self.lora_as_matrix:
            raise ValueError(f"`merge_lora()` must precede `quantize` after `as_matrix=True`. Received: {self.name}")
        return super().quantize(mode, type_check=False, config=config)


@contextlib.contextmanager
def packed_weights(model):
    """Scope in which the projections in `model` use weights that are reshaped once, at its start.

    For loops over single rows, in which XLA would lay out a reshaped kernel again at every step. Biases are stored
    negated: XLA and TensorFlow (oneDNN) fuse the product of one row with an addition into a kernel that takes 1.5 times
    as long, but do not fuse a subtraction.
    """
    found = [layer for layer in compat.layers_of(model) if isinstance(layer, Projection)]
    found = [layer for layer in found if layer.built and layer.quantization_mode is None]
    token = _packed.set({id(layer): layer._pack() for layer in found})
    try:
        yield
    finally:
        _packed.reset(token)


_packed = contextvars.ContextVar("keras_attn_packed_weights", default=None)
