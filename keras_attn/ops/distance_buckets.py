"""Distances between positions, sorted into a few buckets."""

from __future__ import annotations

import math

from keras import ops

from keras_attn.ops.sums import add
from keras_attn.typing import Tensor


def distance_buckets(
    query_positions: Tensor,
    key_positions: Tensor,
    *,
    num_buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = True,
) -> Tensor:
    """Bucket of each query/key pair: one a distance while near, ever wider ones further away.

    Half of the buckets hold the distances `0, 1, 2, ...`, the other half grow as the logarithm of the distance up to
    `max_distance`, and the last takes all beyond. With `bidirectional`, later keys have buckets of their own;
    without, they share bucket 0.

    Args:
        query_positions: int32 `(B, T)` or `(1, T)`.
        key_positions: int32 `(B, S)` or `(1, S)`.
        num_buckets: number of buckets, even where `bidirectional`.
        max_distance: distance from which on all share the last bucket.
        bidirectional: whether keys behind and ahead of the query are told apart.

    Returns:
        int32 `(B, T, S)`, in `[0, num_buckets)`.

    Reference:
        [Raffel et al., 2020](https://arxiv.org/abs/1910.10683), section 2.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import distance_buckets
    >>> np.asarray(distance_buckets(np.array([[20]]), np.array([[0, 12, 19, 20, 21]]), num_buckets=8))
    array([[[3, 2, 1, 0, 5]]], dtype=int32)
    """
    keys, queries = ops.expand_dims(key_positions, 1), ops.expand_dims(query_positions, -1)
    offset = ops.cast(ops.subtract(keys, queries), "int32")
    if bidirectional:
        num_buckets //= 2
        side = ops.where(ops.greater(offset, 0), num_buckets, 0)
        distance = ops.abs(offset)
    else:
        side = 0
        distance = ops.maximum(-offset, 0)
    num_exact = num_buckets // 2
    # Below `num_exact` this branch is not chosen; the maximum keeps its logarithm finite there.
    ratio = ops.cast(ops.maximum(distance, num_exact), "float32") / num_exact
    step = (num_buckets - num_exact) / math.log(max_distance / num_exact)
    far = num_exact + ops.cast(ops.log(ratio) * step, "int32")
    bucket = ops.where(ops.less(distance, num_exact), distance, ops.minimum(far, num_buckets - 1))
    return ops.cast(add(bucket, side), "int32")
