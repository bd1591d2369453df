"""Convolutional front end for audio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import activations, initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.shape_checks import check_mask, check_sequence
from keras_attn.ops.boolean_mask import boolean
from keras_attn.ops.windows import sequence_windows
from keras_attn.typing import Activation, Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class AudioFrontEnd(Configurable, keras.layers.Layer):
    """A stack of convolutions along time: `x_j = activation(windows(x_(j-1)) W_j + b_j)`.

    A convolution of stride `s` turns `T` frames into `ceil(T / s)`, centred at every `s`-th frame, with zero padding at
    the ends. It is computed as one matrix product; its kernel `(kernel_size * channels, hidden_dim)` is a flattened
    `keras.layers.Conv1D` kernel. Padded frames are zeroed before every convolution and in the output, so a row's output
    does not depend on the rest of the batch.

    Args:
        hidden_dim: Number of channels `D` of every convolution.
        kernel_size: Kernel size of each convolution, in frames.
        strides: Stride of each convolution; there is one convolution per stride. Defaults to the strides of Whisper.
        activation: Activation after each convolution.
        use_bias: Whether the convolutions have biases.
        kernel_initializer, bias_initializer: Initializers of the convolutions.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, C)`: mel bands, or samples with `C = 1`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, ceil(T / s), D)`, where `s` is the product of the strides. Its Keras mask is every `s`-th entry of
        the inputs' mask, also available as `compute_mask(inputs, inputs_mask)`.

    Raises:
        ValueError: If a size or stride is not a positive integer, there is no stride, or `inputs` is not of rank 3.

    Reference:
        [Radford et al., 2022](https://arxiv.org/abs/2212.04356), section 2.2

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AudioFrontEnd
    >>> tuple(AudioFrontEnd(16)(np.ones((2, 30, 80), "float32")).shape)
    (2, 15, 16)
    """

    def __init__(
        self,
        hidden_dim: int,
        kernel_size: int = 3,
        strides: int | Sequence[int] = (1, 2),
        activation: Activation = "gelu",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        strides = tuple(strides) if isinstance(strides, (tuple, list)) else (strides,)
        check_positive(hidden_dim=hidden_dim, kernel_size=kernel_size)
        for stride in strides:
            check_positive(strides=stride)
        if not strides:
            raise ValueError("`strides` must hold one stride or more. Received: strides=()")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.hidden_dim, self.kernel_size, self.strides = hidden_dim, kernel_size, strides
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)
        self.convolutions = []
        width = inputs_shape[-1]
        for i in range(len(self.strides)):
            convolution = Projection(
                "abc,cd->abd",
                (None, self.hidden_dim),
                activation=self.activation,
                bias_axes="d" if self.use_bias else None,
                kernel_initializer=cloned(self.kernel_initializer),
                bias_initializer=cloned(self.bias_initializer),
                dtype=self.dtype_policy,
                name=f"convolution_{i}",
            )
            convolution.build((None, None, self.kernel_size * width))
            self.convolutions.append(convolution)
            width = self.hidden_dim

    def call(self, inputs: Tensor, inputs_mask: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        check_sequence("inputs", inputs.shape)
        mask = implicit_mask(inputs, inputs_mask, mask)
        check_mask("inputs_mask", mask, inputs.shape[:-1])
        x = _without_padding(inputs, mask)
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            x = convolution(sequence_windows(x, self.kernel_size, stride))
            mask = None if mask is None else mask[:, ::stride]
            x = _without_padding(x, mask)
        return x

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return None if mask is None else mask[:, :: self._stride]

    @property
    def _stride(self):
        return math.prod(self.strides)

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        length = inputs_shape[1]
        return (inputs_shape[0], length and -(-length // self._stride), self.hidden_dim)


def _without_padding(x, mask):
    if mask is None:
        return x
    return ops.where(ops.expand_dims(boolean("inputs_mask", mask), -1), x, ops.zeros_like(x))
