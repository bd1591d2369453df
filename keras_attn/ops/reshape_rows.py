"""Reshapes whose first axis is as long as it was, also where nothing is in the array."""

from keras import ops


def reshape_rows(x, rows, *sizes):
    """`x` as `(rows, *sizes)`.

    A graph computes `rows` only where it must: -1 costs nothing, but says nothing where another size may be zero.

    Args:
        x: tensor.
        rows: int or scalar tensor.
        *sizes: ints or scalar tensors.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops.reshape_rows import reshape_rows
    >>> tuple(reshape_rows(np.zeros((0, 6)), 2, 0, 3, 2).shape)
    (2, 0, 3, 2)
    """
    is_implied = not isinstance(rows, int) and all(isinstance(size, int) and size > 0 for size in sizes)
    return ops.reshape(x, (-1 if is_implied else rows, *sizes))
