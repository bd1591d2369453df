"""Which tokens occur in a row."""

from keras import ops


def occurrences(ids, mask, vocabulary_size):
    """Whether each token of the vocabulary occurs in each row.

    Args:
        ids: int32 `(R, M)`; tokens outside of the vocabulary are nobody's.
        mask: bool `(R, M)`, False where nothing stands.
        vocabulary_size: number of tokens `V`, an int.

    Returns:
        bool `(R, V)`.

    Example:

    >>> import numpy as np
    >>> mask = np.array([[True, True, False]])
    >>> np.asarray(occurrences(np.array([[3, 1, 2]]), mask, 5)).astype("int32")
    array([[0, 1, 0, 1, 0]], dtype=int32)
    """
    rows, width = ops.shape(ids)[0], vocabulary_size + 1
    # A column more takes what is masked; it is cut off below.
    columns = ops.cast(ops.minimum(ops.where(mask, ids, vocabulary_size), vocabulary_size), "int32")
    starts = ops.expand_dims(ops.multiply(ops.arange(rows, dtype="int32"), width), 1)
    # Not `ops.add`: Keras may take a second operand of one long axis for a bias.
    places = ops.reshape(columns + starts, (-1, 1))
    # Some runtimes add what meets in one place, others keep one of them: either way it is not 0.
    marks = ops.scatter(places, ops.ones_like(places[:, 0]), (rows * width,))
    return ops.greater(ops.reshape(marks, (-1, width))[:, :vocabulary_size], 0)
