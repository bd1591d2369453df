"""Grid cells of positions, and buckets and table products of relative positions."""

from __future__ import annotations

import math

from keras import ops

from keras_attn.ops.arrays import add, reshape, reshape_rows, shape_of
from keras_attn.typing import Tensor


def grid_cells(positions: Tensor, width: int, num_prefix: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The cell `(row, column)` of position `num_prefix + row * width + column`; earlier positions have no cell.

    Args:
        positions: Int, any shape.
        width: Number of columns of the grid.
        num_prefix: Number of positions before the grid.

    Returns:
        `(rows, columns, inside)` of the shape of `positions`: int32, `(0, 0)` without a cell, and bool.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import grid_cells
    >>> rows, columns, inside = grid_cells(np.arange(7), width=3, num_prefix=1)
    >>> np.asarray(rows), np.asarray(columns)
    (array([0, 0, 0, 0, 1, 1, 1], dtype=int32), array([0, 0, 1, 2, 0, 1, 2], dtype=int32))
    """
    cells = ops.cast(positions, "int32") - num_prefix
    inside = ops.greater_equal(cells, 0)
    cells = ops.maximum(cells, 0)
    rows = ops.floor_divide(cells, width)
    return rows, cells - rows * width, inside


def distance_buckets(
    query_positions: Tensor,
    key_positions: Tensor,
    *,
    num_buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = True,
) -> Tensor:
    """Bucket of each query/key pair: one per distance for small distances, wider ones for larger distances.

    Half of the buckets hold the distances `0, 1, 2, ...`; the other half grow logarithmically up to `max_distance`, and
    the last one holds all larger distances. With `bidirectional`, later keys have separate buckets; without, they share
    bucket 0.

    Args:
        query_positions: Int32 `(B, T)` or `(1, T)`.
        key_positions: Int32 `(B, S)` or `(1, S)`.
        num_buckets: Number of buckets, even if `bidirectional`.
        max_distance: Distance from which on all positions share the last bucket.
        bidirectional: Whether keys before and after the query have separate buckets.

    Returns:
        Int32 `(B, T, S)`, in `[0, num_buckets)`.

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
    # This branch is not used below `num_exact`; the maximum keeps its logarithm finite there.
    ratio = ops.cast(ops.maximum(distance, num_exact), "float32") / num_exact
    step = (num_buckets - num_exact) / math.log(max_distance / num_exact)
    far = num_exact + ops.cast(ops.log(ratio) * step, "int32")
    bucket = ops.where(ops.less(distance, num_exact), distance, ops.minimum(far, num_buckets - 1))
    return ops.cast(add(bucket, side), "int32")


def relative_logits(queries: Tensor, table: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """`queries[t] . table[c]`, with `c` the offset of each key from `t`, clipped to the table.

    Args:
        queries: Float `(B, N, T, H)`.
        table: Float `(2 * max_distance + 1, H)`, for offsets from `-max_distance` to `max_distance`.
        query_positions: Int32 `(B, T)` or `(1, T)`.
        key_positions: Int32 `(B, S)` or `(1, S)`.

    Returns:
        Float `(B, N, T, S)`.

    Reference:
        [Shaw et al., 2018](https://arxiv.org/abs/1803.02155), section 3.3

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import relative_logits
    >>> table = np.array([[-1.0], [0.0], [1.0]], "float32")
    >>> queries, positions = np.ones((1, 1, 3, 1), "float32"), np.arange(3)[None]
    >>> np.asarray(relative_logits(queries, table, positions, positions))[0, 0]
    array([[ 0.,  1.,  1.],
           [-1.,  0.,  1.],
           [-1., -1.,  0.]], dtype=float32)
    """
    rows = ops.matmul(queries, ops.transpose(table))
    return _taken(rows, _cells(rows, query_positions, key_positions))


def bucket_logits(logits: Tensor, buckets: Tensor, of_keys: bool = False) -> Tensor:
    """The logit of each query and key, from one per query and bucket or one per key and bucket.

    Args:
        logits: Float `(B, N, T, C)`; `(B, N, S, C)` with `of_keys`.
        buckets: Int32 `(B, T, S)` or `(1, T, S)`, in `[0, C)`.
        of_keys: Whether `logits` has a row per key.

    Returns:
        Float `(B, N, T, S)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import bucket_logits
    >>> logits = np.array([[[[1.0, 2.0], [3.0, 4.0]]]], "float32")
    >>> np.asarray(bucket_logits(logits, np.array([[[1, 0], [1, 1]]])))
    array([[[[2., 1.],
             [4., 4.]]]], dtype=float32)
    """
    buckets = ops.cast(buckets, "int32")
    if buckets.shape[0] != 1:
        return _taken(logits, _flat(logits, buckets, of_keys))
    # The same for all rows and heads: whole vectors of them are gathered, which takes a ninth of the time.
    batch, heads, length, size = shape_of(logits)
    table = ops.transpose(reshape(logits, (batch * heads, length * size)))
    first = reshape(ops.arange(length, dtype="int32") * size, (1, 1, length) if of_keys else (1, length, 1))
    found = ops.take(table, reshape(add(buckets, first), (-1,)), axis=0)
    return reshape_rows(ops.transpose(found), batch, heads, *shape_of(buckets)[1:])


def relative_values(weights: Tensor, table: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """`sum over s of weights[t, s] * table[c]`, with `c` the offset of `s` from `t`, clipped to the table.

    Args:
        weights: Float `(B, N, T, S)`.
        table: Float `(2 * max_distance + 1, H)`.
        query_positions, key_positions: As for `relative_logits`.

    Returns:
        Float `(B, N, T, H)`.
    """
    batch, heads, length, _keys = shape_of(weights)
    size = table.shape[0]
    empty = ops.zeros((batch, heads, length, size), weights.dtype)
    cells = _cells(empty, query_positions, key_positions)
    sums = ops.segment_sum(reshape(weights, (-1,)), reshape(cells, (-1,)), batch * heads * length * size)
    return ops.matmul(reshape_rows(sums, batch, heads, length, size), table)


def _cells(rows, query_positions, key_positions):
    """The flat index in `rows` `(B, N, T, C)` of each query and key: int32 `(B, N, T, S)`."""
    max_distance = rows.shape[-1] // 2
    keys, queries = ops.expand_dims(key_positions, 1), ops.expand_dims(query_positions, -1)
    distance = ops.cast(ops.subtract(keys, queries), "int32")
    return _flat(rows, ops.clip(distance, -max_distance, max_distance) + max_distance)


def _flat(rows, columns, of_keys=False):
    """The flat index in `rows`, `(B, N, T or S, C)`, of column `columns[b, t, s]`: int32 `(B, N, T, S)`."""
    batch, heads, length, size = shape_of(rows)
    shape = (batch, heads, 1, length) if of_keys else (batch, heads, length, 1)
    first = reshape(ops.arange(batch * heads * length, dtype="int32") * size, shape)
    return add(first, ops.expand_dims(columns, 1))


def _taken(rows, indices):
    """The numbers in `rows` at flat `indices`, since converters do not support a gather with batch axes."""
    return ops.take(reshape(rows, (-1,)), indices, axis=0)
