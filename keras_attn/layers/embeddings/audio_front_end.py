"""Convolutional front end for audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import activations, initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.base.layer_normalization import LayerNormalization
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.shape_checks import check_mask, check_sequence
from keras_attn.layers.base.without_padding import without_padding
from keras_attn.layers.embeddings.time_normalization import TimeNormalization
from keras_attn.ops.arrays import axis_size, ceil_div
from keras_attn.ops.boolean_mask import boolean
from keras_attn.ops.windows import num_windows, sequence_windows, valid_windows
from keras_attn.typing import Activation, Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class AudioFrontEnd(Configurable, keras.layers.Layer):
    """A stack of convolutions along time: `x_j = activation(windows(x_(j-1)) W_j + b_j)`.

    A convolution of stride `s` turns `T` frames into `ceil(T / s)`, centred at every `s`-th frame, with zero padding at
    the ends; with `padding="valid"`, into the `(T - kernel_size) // s + 1` whose windows lie inside. It is computed as
    one matrix product; its kernel `(kernel_size * channels, hidden_dim)` is a flattened `keras.layers.Conv1D` kernel.
    Padded frames are zeroed before every convolution and in the output, so a row's output does not depend on the rest
    of the batch.

    Args:
        hidden_dim: Number of channels of every convolution, or a list with one number for each.
        kernel_size: Kernel size of every convolution, in frames, or a list with one size for each.
        strides: Stride of each convolution; there is one convolution per stride. Defaults to the strides of Whisper.
        activation: Activation after each convolution.
        use_bias: Whether the convolutions have biases.
        padding: "same" or "valid", see above. Wav2Vec2 uses "valid".
        norm: None; "layer" for layer normalisation before each activation; "group" for normalisation of each channel
            over the time of a row, without its padding, before the first activation only. Both are in Wav2Vec2.
        norm_epsilon: Added to the variance.
        output_dim: Optional width of a projection `W norm(x) + b` of the last convolution's output, as in Wav2Vec2.
        kernel_initializer, bias_initializer: Initializers of the convolutions.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, C)`: mel bands, or samples with `C = 1`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, ceil(T / s), D)`, where `s` is the product of the strides; fewer frames with "valid". Its Keras mask
        is every `s`-th entry of the inputs' mask, and with "valid" True if the whole window is real; also available as
        `compute_mask(inputs, inputs_mask)`.

    Raises:
        ValueError: If a size or stride is not a positive integer, there is no stride, a list has another number of
            entries, or `inputs` is not of rank 3.

    Reference:
        [Radford et al., 2022](https://arxiv.org/abs/2212.04356), section 2.2; "valid" and norms
        [Baevski et al., 2020](https://arxiv.org/abs/2006.11477), section 2

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AudioFrontEnd
    >>> tuple(AudioFrontEnd(16)(np.ones((2, 30, 80), "float32")).shape)
    (2, 15, 16)
    """

    def __init__(
        self,
        hidden_dim: int | Sequence[int],
        kernel_size: int | Sequence[int] = 3,
        strides: int | Sequence[int] = (1, 2),
        activation: Activation = "gelu",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        *,
        padding: str = "same",
        norm: str | None = None,
        norm_epsilon: float = 1e-5,
        output_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        strides = tuple(strides) if isinstance(strides, (tuple, list)) else (strides,)
        if not strides:
            raise ValueError("`strides` must hold one stride or more. Received: strides=()")
        for name, value in {"hidden_dim": hidden_dim, "kernel_size": kernel_size, "strides": strides}.items():
            for number in _one_each(name, value, len(strides)):
                check_positive(**{name: number})
        check_positive(output_dim=1 if output_dim is None else output_dim)
        if padding not in ("same", "valid") or norm not in (None, "layer", "group"):
            raise ValueError(
                "`padding` must be 'same' or 'valid', and `norm` None, 'layer' or 'group'. "
                f"Received: padding={padding!r}, norm={norm!r}"
            )
        super().__init__(**kwargs)
        self.supports_masking = True
        self.hidden_dim, self.kernel_size, self.strides = hidden_dim, kernel_size, strides
        self.padding, self.norm, self.norm_epsilon, self.output_dim = padding, norm, norm_epsilon, output_dim
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)
        self.convolutions, self.norms = [], []
        channels = inputs_shape[-1]
        for i, (kernel_size, width) in enumerate(zip(self._kernel_sizes, self._widths, strict=True)):
            norm = self._new_norm(i)
            activation, bias_axes = self.activation if norm is None else None, "d" if self.use_bias else None
            window = kernel_size * channels
            self.convolutions.append(self._projection(f"convolution_{i}", window, width, bias_axes, activation))
            channels = width
            if norm is not None:
                norm.build((None, None, width))
                self.norms.append(norm)
        self.output_norm = self.output_dense = None
        if self.output_dim is not None:
            self.output_norm = LayerNormalization(self.norm_epsilon, dtype=self.dtype_policy, name="output_norm")
            self.output_norm.build((None, None, channels))
            self.output_dense = self._projection("output", channels, self.output_dim, "d")

    def _projection(self, name, width, output_width, bias_axes, activation=None):
        projection = Projection(
            "abc,cd->abd",
            (None, output_width),
            activation=activation,
            bias_axes=bias_axes,
            kernel_initializer=cloned(self.kernel_initializer),
            bias_initializer=cloned(self.bias_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        projection.build((None, None, width))
        return projection

    def _new_norm(self, index):
        """The norm after a convolution, or None."""
        if self.norm is None or (self.norm == "group" and index):
            return None
        norm = LayerNormalization if self.norm == "layer" else TimeNormalization
        return norm(self.norm_epsilon, dtype=self.dtype_policy, name=f"norm_{index}")

    @property
    def _kernel_sizes(self):
        return _one_each("kernel_size", self.kernel_size, len(self.strides))

    @property
    def _widths(self):
        return _one_each("hidden_dim", self.hidden_dim, len(self.strides))

    def call(self, inputs: Tensor, inputs_mask: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        check_sequence("inputs", inputs.shape)
        mask = implicit_mask(inputs, inputs_mask, mask)
        check_mask("inputs_mask", mask, inputs.shape[:-1])
        windows = sequence_windows if self.padding == "same" else valid_windows
        x = without_padding(inputs, mask)
        for i, step in enumerate(zip(self._kernel_sizes, self.strides, strict=True)):
            x = self.convolutions[i](windows(x, *step))
            mask = self._shortened(mask, *step)
            if i < len(self.norms):
                x = self.norms[i](x, mask) if self.norm == "group" else self.norms[i](x)
                x = self.activation(x)
            x = without_padding(x, mask)
        if self.output_dense is None:
            return x
        return without_padding(self.output_dense(self.output_norm(x)), mask)

    def _shortened(self, mask, kernel_size, stride):
        """The mask of a convolution's output."""
        if mask is None:
            return None
        if self.padding == "same":
            return mask[:, ::stride]
        covered = num_windows(axis_size(mask, 1), kernel_size, stride) * stride
        # At the end, one entry per stride that no window contains makes both slices equally long.
        mask = ops.pad(boolean("inputs_mask", mask), ((0, 0), (0, stride)))
        first, last = (mask[:, i : i + covered : stride] for i in (0, kernel_size - 1))
        return ops.logical_and(first, last)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        for step in zip(self._kernel_sizes, self.strides, strict=True):
            mask = self._shortened(mask, *step)
        return mask

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        length = inputs_shape[1]
        for size, stride in zip(self._kernel_sizes, self.strides, strict=True):
            if length is not None:
                length = ceil_div(length, stride) if self.padding == "same" else num_windows(length, size, stride)
        return (inputs_shape[0], length, self.output_dim or self._widths[-1])


def _one_each(name, value, count):
    """`value` for each of `count` convolutions: a list of as many, or one for all."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count:
        raise ValueError(f"`{name}` must have one entry for each of the {count} `strides`. Received: {name}={value}")
    return values
