"""Attention pooling with a trained query."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.attention.multi_head_attention import MultiHeadAttention
from keras_attn.layers.base.normalization import normalization
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.ops.arrays import add, axis_size
from keras_attn.typing import Activation, Initializer, Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class AttentionPooling(BasePooling):
    """Computes `y = MultiHeadAttention(query, x)` with a single trained query vector.

    With `intermediate_dim`, the output is `y + W_2 activation(W_1 norm(y) + b_1) + b_2`, as in SigLIP.
    `attention_maps` returns its attention scores too.

    Args:
        num_heads: Number of attention heads.
        key_dim: Width of a head. Defaults to the channels of the inputs divided by `num_heads`.
        dropout: Dropout rate of the attention weights.
        query_initializer: Initializer of the query.
        seed: Seed of the dropout.
        intermediate_dim: Optional inner width of a feed-forward network after attention.
        activation: Activation of the feed-forward network.
        norm_epsilon: Added to the variance by the norm of its input.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.
        training: Whether to apply dropout.

    Returns:
        Float `(B, D)`; zeros for a fully padded row.

    Raises:
        ValueError: If an argument is invalid, `inputs` is not of rank 3, or the mask does not fit.

    Reference:
        [Lin et al., 2017](https://arxiv.org/abs/1703.03130); with several heads
        [Zhai et al., 2022](https://arxiv.org/abs/2106.04560)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AttentionPooling
    >>> tuple(AttentionPooling(num_heads=4)(np.ones((2, 5, 16), "float32")).shape)
    (2, 16)
    """

    def __init__(
        self,
        num_heads: int = 1,
        key_dim: int | None = None,
        dropout: float = 0.0,
        query_initializer: Initializer = "glorot_uniform",
        seed: Seed | None = None,
        *,
        intermediate_dim: int | None = None,
        activation: Activation = "gelu",
        norm_epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        sizes = {"key_dim": key_dim, "intermediate_dim": intermediate_dim}
        check_positive(num_heads=num_heads, **{name: x for name, x in sizes.items() if x is not None})
        super().__init__(**kwargs)
        self.query_initializer = initializers.get(query_initializer)
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.dropout = dropout
        self.seed = seed
        self.intermediate_dim = intermediate_dim
        self.activation = activations.get(activation)
        self.norm_epsilon = norm_epsilon

    def build(self, inputs_shape: Shape) -> None:
        super().build(inputs_shape)
        width = inputs_shape[-1]
        if self.key_dim is None and width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the {width} channels of the inputs, or `key_dim` must be given. "
                f"Received: num_heads={self.num_heads}"
            )
        self.query = self.add_weight(name="query", shape=(1, 1, width), initializer=self.query_initializer)
        self.attention = MultiHeadAttention(
            self.num_heads,
            self.key_dim or width // self.num_heads,
            dropout=self.dropout,
            seed=self.seed,
            dtype=self.dtype_policy,
            name="attention",
        )
        self.attention.build((inputs_shape[0], 1, width), inputs_shape)
        if self.intermediate_dim is not None:
            self.norm = normalization("layer", self.norm_epsilon, self.dtype_policy, "norm")
            self.norm.build((None, width))
            self.intermediate_dense = self._dense("intermediate", width, self.intermediate_dim, self.activation)
            self.output_dense = self._dense("output", self.intermediate_dim, width)

    def _dense(self, name, width, output_width, activation=None):
        layer = Projection(
            "ab,bc->ac", (output_width,), bias_axes="c", activation=activation, dtype=self.dtype_policy, name=name
        )
        layer.build((None, width))
        return layer

    def call(
        self,
        inputs: Tensor,
        inputs_mask: Tensor | None = None,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        return super().call(inputs, inputs_mask, mask, training=training)

    def pool(self, inputs: Tensor, mask: Tensor, training: bool | None = None) -> Tensor:
        query = ops.broadcast_to(ops.cast(self.query, inputs.dtype), (axis_size(inputs, 0), 1, inputs.shape[-1]))
        x = ops.squeeze(self.attention(query, inputs, value_mask=mask, training=training), 1)
        if self.intermediate_dim is None:
            return x
        x = add(x, self.output_dense(self.intermediate_dense(self.norm(x))))
        # The biases would make a fully padded row differ from zero.
        real = ops.greater(axis_size(inputs, 1), 0) if mask is None else ops.any(mask, axis=1, keepdims=True)
        return ops.where(real, x, ops.zeros_like(x))
