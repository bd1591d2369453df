"""Tokens that occur in each row."""

from keras import ops

from keras_attn.ops.arrays import axis_size, reshape


def occurrences(ids, mask, vocabulary_size):
    """Whether each token of the vocabulary occurs in each row.

    Args:
        ids: Int32 `(R, M)`; ids outside of the vocabulary are ignored.
        mask: Bool `(R, M)`, False at empty positions.
        vocabulary_size: Number of tokens `V`, an int.

    Returns:
        Bool `(R, V)`.

    Example:

    >>> import numpy as np
    >>> mask = np.array([[True, True, False]])
    >>> np.asarray(occurrences(np.array([[3, 1, 2]]), mask, 5)).astype("int32")
    array([[0, 1, 0, 1, 0]], dtype=int32)
    """
    rows, width = axis_size(ids, 0), vocabulary_size + 1
    # An extra column collects masked ids and is cut off below.
    columns = ops.cast(ops.minimum(ops.where(mask, ids, vocabulary_size), vocabulary_size), "int32")
    starts = ops.expand_dims(ops.multiply(ops.arange(rows, dtype="int32"), width), 1)
    # Not `ops.add`: Keras may treat a second operand with one long axis as a bias.
    places = reshape(columns + starts, (-1, 1))
    # For duplicate indices some runtimes add, others keep one value: either way it is not 0.
    marks = ops.scatter(places, ops.ones_like(places[:, 0]), (rows * width,))
    return ops.greater(reshape(marks, (-1, width))[:, :vocabulary_size], 0)
