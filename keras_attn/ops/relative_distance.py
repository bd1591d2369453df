"""Products with a table of vectors, one for each clipped distance of a query and a key."""

from __future__ import annotations

from keras import ops

from keras_attn.ops.reshape_rows import reshape_rows
from keras_attn.ops.sums import add
from keras_attn.typing import Tensor


def relative_logits(queries: Tensor, table: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """`queries[t] . table[c]`, with `c` the distance from `t` to each key, clipped to the table.

    Args:
        queries: float `(B, N, T, H)`.
        table: float `(2 * max_distance + 1, H)`, from `max_distance` behind to as far ahead.
        query_positions: int32 `(B, T)` or `(1, T)`.
        key_positions: int32 `(B, S)` or `(1, S)`.

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
    # From a flat array, since converters know no gather with batch axes.
    return ops.take(ops.reshape(rows, (-1,)), _cells(rows, query_positions, key_positions), axis=0)


def relative_values(weights: Tensor, table: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """`sum over s of weights[t, s] * table[c]`, with `c` the distance from `t` to `s`, clipped to the table.

    Args:
        weights: float `(B, N, T, S)`.
        table: float `(2 * max_distance + 1, H)`.
        query_positions, key_positions: as for `relative_logits`.

    Returns:
        Float `(B, N, T, H)`.
    """
    batch, heads, length, _keys = ops.shape(weights)
    size = table.shape[0]
    empty = ops.zeros((batch, heads, length, size), weights.dtype)
    cells = _cells(empty, query_positions, key_positions)
    sums = ops.segment_sum(ops.reshape(weights, (-1,)), ops.reshape(cells, (-1,)), batch * heads * length * size)
    return ops.matmul(reshape_rows(sums, batch, heads, length, size), table)


def _cells(rows, query_positions, key_positions):
    """Which cell of `rows` `(B, N, T, C)`, counted through, belongs to each query and key: int32 `(B, N, T, S)`."""
    batch, heads, length, size = ops.shape(rows)
    max_distance = rows.shape[-1] // 2
    keys, queries = ops.expand_dims(key_positions, 1), ops.expand_dims(query_positions, -1)
    distance = ops.cast(ops.subtract(keys, queries), "int32")
    column = ops.clip(distance, -max_distance, max_distance) + max_distance
    first = ops.reshape(ops.arange(batch * heads * length, dtype="int32") * size, (batch, heads, length, 1))
    return add(first, ops.expand_dims(column, 1))
