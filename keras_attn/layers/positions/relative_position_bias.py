"""Learned relative position bias."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops.positions import distance_buckets
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class RelativePositionBias(PositionEncoding):
    """Adds `table[bucket(key position - query position), n]` to the logits of head `n`, as T5 does.

    To share the table among the blocks of a stack, pass one instance to all of them; a saved model keeps it shared.

    Args:
        num_heads: Number of query heads.
        num_buckets: Number of distance buckets, even if `bidirectional`. See `keras_attn.ops.distance_buckets`.
        max_distance: Distance from which on all positions share the last bucket.
        bidirectional: Whether keys before and after the query have separate buckets; False for causal attention.
        embeddings_initializer: Initializer of the table.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not a positive integer, or `num_buckets` is too small or odd.

    Reference:
        [Raffel et al., 2020](https://arxiv.org/abs/1910.10683), section 2.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import MultiHeadAttention, RelativePositionBias
    >>> attention = MultiHeadAttention(num_heads=2, key_dim=8, position=RelativePositionBias(num_heads=2))
    >>> tuple(attention(np.ones((3, 5, 16), "float32")).shape)
    (3, 5, 16)
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        embeddings_initializer: Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        check_positive(num_heads=num_heads, num_buckets=num_buckets, max_distance=max_distance)
        one_side = num_buckets // 2 if bidirectional else num_buckets
        if one_side < 2 or (bidirectional and num_buckets % 2) or max_distance <= one_side // 2:
            raise ValueError(
                "`num_buckets` must be 2 or more on each side, even if `bidirectional`, and fewer than twice "
                f"`max_distance`. Received: num_buckets={num_buckets}, max_distance={max_distance}"
            )
        super().__init__(**kwargs)
        self.num_heads, self.num_buckets = num_heads, num_buckets
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, inputs_shape: Shape | None = None) -> None:
        self.relative_embeddings = self.add_weight(
            name="relative_embeddings",
            shape=(self.num_buckets, self.num_heads),
            initializer=self.embeddings_initializer,
        )

    def logit_bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        buckets = distance_buckets(
            query_positions,
            key_positions,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
            bidirectional=self.bidirectional,
        )
        return ops.transpose(ops.take(self.relative_embeddings, buckets, axis=0), (0, 3, 1, 2))
