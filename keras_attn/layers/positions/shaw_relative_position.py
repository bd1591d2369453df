"""Learned relative positions of keys and values."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops import relative_logits, relative_values
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ShawRelativePosition(PositionEncoding):
    """Adds row `clip(s - t)` of a trained table to key `s` for query `t`, and of a second table to its value.

    Logits gain `scale * q_t . key_table[c]`, outputs gain `sum over s of weights[t, s] * value_table[c]`, with
    `c = clip(key position - query position, -max_distance, max_distance) + max_distance`. All heads share the tables.
    Memory stays below `T x S x H`: queries are multiplied by the table before its rows are gathered per key, and
    weights are summed per distance before they are multiplied by the table.

    Args:
        max_distance: Distance from which on all keys on one side share a row.
        key_dim: Width of a query or key head.
        value_dim: Width of a value head, or None for no value table. If given, the attention kernel must be able to
            return its scores.
        embeddings_initializer: Initializer of the tables.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not a positive integer, or the heads and the tables differ in width.

    Reference:
        [Shaw et al., 2018](https://arxiv.org/abs/1803.02155)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import MultiHeadAttention, ShawRelativePosition
    >>> position = ShawRelativePosition(max_distance=4, key_dim=8, value_dim=8)
    >>> attention = MultiHeadAttention(num_heads=2, key_dim=8, position=position)
    >>> tuple(attention(np.ones((3, 5, 16), "float32")).shape)
    (3, 5, 16)
    """

    def __init__(
        self,
        max_distance: int,
        key_dim: int,
        value_dim: int | None = None,
        embeddings_initializer: Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        check_positive(max_distance=max_distance, key_dim=key_dim)
        if value_dim is not None:
            check_positive(value_dim=value_dim)
        super().__init__(**kwargs)
        self.max_distance, self.key_dim, self.value_dim = max_distance, key_dim, value_dim
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.uses_scores = value_dim is not None

    def build(self, inputs_shape: Shape | None = None) -> None:
        self.key_embeddings = self._table("key_embeddings", self.key_dim)
        if self.uses_scores:
            self.value_embeddings = self._table("value_embeddings", self.value_dim)

    def content_bias(self, queries: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        if queries.shape[-1] != self.key_dim:
            raise ValueError(
                f"`key_dim` must be the width of a head, {queries.shape[-1]}. Received: key_dim={self.key_dim}"
            )
        return relative_logits(queries, ops.cast(self.key_embeddings, queries.dtype), query_positions, key_positions)

    def content_value(self, scores: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        return relative_values(scores, ops.cast(self.value_embeddings, scores.dtype), query_positions, key_positions)

    def _table(self, name, width):
        return self.add_weight(
            name=name,
            shape=(2 * self.max_distance + 1, width),
            # A shared initializer instance would give both tables the same initial values.
            initializer=cloned(self.embeddings_initializer),
        )
