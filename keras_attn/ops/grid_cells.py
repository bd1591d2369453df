"""Rows and columns of positions that run along the rows of a grid."""

from __future__ import annotations

from keras import ops

from keras_attn.typing import Tensor


def grid_cells(positions: Tensor, width: int, num_prefix: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Position `num_prefix + row * width + column` is cell `(row, column)`; those before `num_prefix` are in no cell.

    Args:
        positions: int, any shape.
        width: number of columns of the grid.
        num_prefix: how many positions precede the grid.

    Returns:
        `(rows, columns, inside)`: int32 of `positions`' shape, `(0, 0)` for those in no cell, and bool.

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
