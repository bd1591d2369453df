"""Convolutional embedding of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import activations, initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.ops.arrays import add, ceil_div, conv, reshape_rows, shape_of
from keras_attn.typing import Activation, Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ConvolutionalEmbedding(Configurable, keras.layers.Layer):
    """A stack of `x_j = max_pool(activation(conv(x_(j-1)) + b_j))`, whose last pixels are the vectors, row by row.

    It is the tokeniser of the compact convolutional Transformer: unlike patches, windows overlap, so a small data set
    is enough. Each convolution or pooling of stride `s` turns `n` rows into `ceil(n / s)`, centred at every `s`-th row;
    columns likewise. Beyond the edges, convolutions see zeros and poolings nothing. Positions are not added.

    Args:
        hidden_dim: Number of channels after each convolution, one entry per convolution; the last is the width `D` of
            the vectors. An integer is a single convolution.
        kernel_size: Rows and columns of each convolution's kernel.
        strides: Stride of each convolution.
        activation: Activation after each convolution.
        use_bias: Whether the convolutions have biases.
        pool_size: Rows and columns of each pooling window.
        pool_strides: Stride of each pooling.
        filters_initializer: Initializer of the filters, `(kernel_size, kernel_size, channels, channels)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        images: Float `(B, height, width, C)`.

    Returns:
        Float `(B, L, D)`, where `L` is the number of pixels that are left: for `n` convolutions with the default
        strides, `ceil(height / 2^n) * ceil(width / 2^n)`.

    Raises:
        ValueError: If a size or stride is not a positive integer, there is no convolution, or `images` is not of rank
            4 with a known number of channels.

    Reference:
        [Hassani et al., 2021](https://arxiv.org/abs/2104.05704), section 3.3

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import ConvolutionalEmbedding
    >>> tuple(ConvolutionalEmbedding(hidden_dim=(8, 16))(np.ones((2, 32, 20, 3), "float32")).shape)
    (2, 40, 16)
    """

    def __init__(
        self,
        hidden_dim: int | Sequence[int],
        kernel_size: int = 3,
        strides: int = 1,
        activation: Activation = "relu",
        use_bias: bool = False,
        *,
        pool_size: int = 3,
        pool_strides: int = 2,
        filters_initializer: Initializer = "he_normal",
        **kwargs: Any,
    ) -> None:
        self._widths = tuple(hidden_dim) if isinstance(hidden_dim, (tuple, list)) else (hidden_dim,)
        if not self._widths:
            raise ValueError("`hidden_dim` must hold the channels of one convolution or more. Received: hidden_dim=()")
        for width in self._widths:
            check_positive(hidden_dim=width)
        check_positive(kernel_size=kernel_size, strides=strides, pool_size=pool_size, pool_strides=pool_strides)
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.kernel_size, self.strides = kernel_size, strides
        self.pool_size, self.pool_strides = pool_size, pool_strides
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.filters_initializer = initializers.get(filters_initializer)

    def build(self, images_shape: Shape) -> None:
        _check_shape(images_shape)
        self.filters, self.biases = [], []
        channels = images_shape[-1]
        for i, width in enumerate(self._widths):
            shape = (self.kernel_size, self.kernel_size, channels, width)
            initializer = cloned(self.filters_initializer)
            self.filters.append(self.add_weight(name=f"filters_{i}", shape=shape, initializer=initializer))
            if self.use_bias:
                self.biases.append(self.add_weight(name=f"bias_{i}", shape=(width,), initializer="zeros"))
            channels = width

    def call(self, images: Tensor) -> Tensor:
        _check_shape(images.shape)
        x = images
        # Finite, so that a converter can fold or quantise it.
        lowest = float(np.finfo("float16" if self.compute_dtype == "float16" else "float32").min)
        for i, filters in enumerate(self.filters):
            x, padding = _padded(x, self.kernel_size, self.strides)
            filters = ops.cast(filters, x.dtype)
            x = conv(x, filters, self.strides, padding)
            if self.use_bias:
                x = add(x, ops.cast(self.biases[i], x.dtype))
            x = self.activation(x)
            x, padding = _padded(x, self.pool_size, self.pool_strides, lowest)
            x = ops.max_pool(x, self.pool_size, self.pool_strides, padding=padding, data_format="channels_last")
        batch, height, width, channels = shape_of(x)
        return reshape_rows(x, batch, height * width, channels)

    def compute_output_shape(self, images_shape: Shape) -> Shape:
        _check_shape(images_shape)
        sizes = images_shape[1:3]
        for stride in (self.strides, self.pool_strides) * len(self._widths):
            sizes = [size and ceil_div(size, stride) for size in sizes]
        length = None if None in sizes else sizes[0] * sizes[1]
        return (images_shape[0], length, self._widths[-1])


def _padded(x, window, stride, value=0.0):
    """`(x, padding of Keras)` so that windows are centred at every `stride`-th row and column.

    With a stride, Keras' "same" centres them elsewhere, which depends on the size.
    """
    if stride == 1:
        return x, "same"
    ends = ((window - 1) // 2, window // 2)
    return ops.pad(x, ((0, 0), ends, ends, (0, 0)), constant_values=value), "valid"


def _check_shape(shape):
    if len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            "`images` must have rank 4 (batch, height, width, channels), with a known number of channels. "
            f"Received: shape {tuple(shape)}"
        )
