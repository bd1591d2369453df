"""Positions from a convolution along time."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.without_padding import without_padding
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops.arrays import add, axis_size, conv
from keras_attn.typing import Activation, Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ConvolutionalPositionEncoding(PositionEncoding):
    """Adds `activation(conv(x) + b)` to `x`, a grouped convolution along time, as Wav2Vec2 does.

    Frame `t` sees the `kernel_size // 2` frames before it and the `(kernel_size - 1) // 2` after it. Padding counts as
    zeros. Position numbers are not used.

    Args:
        kernel_size: Kernel size, in frames.
        groups: Number of groups of channels, each convolved on its own; a divisor of the channels.
        activation: Activation after the convolution.
        filters_initializer: Initializer of the filters, `(kernel_size, D / groups, D)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        positions: Ignored.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, T, D)`, zeros at padding.

    Raises:
        ValueError: If an argument is not a positive integer, or `groups` does not divide the channels.

    Reference:
        [Baevski et al., 2020](https://arxiv.org/abs/2006.11477), section 2

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import ConvolutionalPositionEncoding
    >>> tuple(ConvolutionalPositionEncoding(kernel_size=4, groups=2)(np.ones((2, 5, 8), "float32")).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        kernel_size: int = 128,
        groups: int = 16,
        activation: Activation = "gelu",
        filters_initializer: Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        check_positive(kernel_size=kernel_size, groups=groups)
        super().__init__(**kwargs)
        self.kernel_size, self.groups = kernel_size, groups
        self.activation = activations.get(activation)
        self.filters_initializer = initializers.get(filters_initializer)

    def build(self, inputs_shape: Shape) -> None:
        width = inputs_shape[-1]
        if width % self.groups:
            raise ValueError(f"`groups` must divide the {width} channels. Received: groups={self.groups}")
        shape = (self.kernel_size, width // self.groups, width)
        self.filters = self.add_weight(name="filters", shape=shape, initializer=self.filters_initializer)
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")

    def call(
        self,
        inputs: Tensor,
        positions: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        mask = implicit_mask(inputs, inputs_mask, mask)
        x = without_padding(inputs, mask)
        # One more frame than it takes: a convolution of fewer frames than its kernel has is an error or not empty,
        # depending on the machine.
        padded = ops.pad(x, ((0, 0), (self.kernel_size // 2, (self.kernel_size - 1) // 2 + 1), (0, 0)))
        filters = ops.cast(self.filters, x.dtype)
        # One convolution per group, as grouped ones do not run on every CPU and in every format.
        parts = zip(ops.split(padded, self.groups, axis=-1), ops.split(filters, self.groups, axis=-1), strict=True)
        y = ops.concatenate([conv(*part) for part in parts], axis=-1)
        y = y[:, : axis_size(x, 1)]
        return without_padding(add(x, self.activation(add(y, ops.cast(self.bias, y.dtype)))), mask)

    def compute_output_spec(self, inputs: Tensor, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
