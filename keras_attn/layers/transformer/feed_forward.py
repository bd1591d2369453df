"""The position-wise feed-forward network of a Transformer block."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.shape_checks import check_sequence
from keras_attn.ops.arrays import add
from keras_attn.typing import Activation, Initializer, Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class FeedForward(Configurable, keras.layers.Layer):
    """`activation(x W_1 + b_1) W_2 + b_2`, the same at every position.

    Args:
        intermediate_dim: Inner width.
        output_dim: Width of the output. Defaults to that of the input.
        activation: Activation of the first projection.
        dropout: Dropout rate of the activations.
        use_bias: Whether the projections have biases.
        kernel_initializer, bias_initializer: Initializers of both projections.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        training: Whether to apply dropout.

    Returns:
        Float `(B, T, output_dim)`.

    Raises:
        ValueError: If a width is not a positive integer.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.3

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import FeedForward
    >>> tuple(FeedForward(64, activation="gelu")(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    # Whether a gate, a second projection with the activation, multiplies the first one; see `GatedFeedForward`.
    gated = False
    gate_limit = None
    gated_offset = 0.0

    def __init__(
        self,
        intermediate_dim: int,
        output_dim: int | None = None,
        activation: Activation = "relu",
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive(intermediate_dim=intermediate_dim, output_dim=1 if output_dim is None else output_dim)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.intermediate_dim = intermediate_dim
        self.output_dim = output_dim
        self.activation = activations.get(activation)
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.seed = seed
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy) if dropout else None

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)
        width = inputs_shape[-1]
        if self.gated:
            self.gate_dense = self._expansion("gate", width)
        self.intermediate_dense = self._expansion("intermediate", width)
        self.output_dense = self._contraction("output", self.output_dim or width)

    def _expansion(self, name, input_width):
        projection = self._projection(name, "abc,cd->abd", (None, self.intermediate_dim), "d")
        projection.build((None, None, input_width))
        return projection

    def _contraction(self, name, output_width):
        projection = self._projection(name, "abc,cd->abd", (None, output_width), "d")
        projection.build((None, None, self.intermediate_dim))
        return projection

    def _projection(self, name, equation, output_shape, bias_axes, kernel_initializer=None):
        return Projection(
            equation,
            output_shape=output_shape,
            bias_axes=bias_axes if self.use_bias else None,
            kernel_initializer=kernel_initializer or cloned(self.kernel_initializer),
            bias_initializer=cloned(self.bias_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def _hidden(self, inputs):
        x = self.intermediate_dense(inputs)
        if not self.gated:
            return self.activation(x)
        gate, limit = self.gate_dense(inputs), self.gate_limit
        if limit is not None:
            gate, x = ops.minimum(gate, limit), ops.clip(x, -limit, limit)
        if self.gated_offset:
            x = add(x, self.gated_offset)
        return ops.multiply(self.activation(gate), x)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        x = self._hidden(inputs)
        if self.dropout_layer is not None:
            x = self.dropout_layer(x, training=training)
        return self.output_dense(x)

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return (*inputs_shape[:-1], self.output_dim or inputs_shape[-1])
