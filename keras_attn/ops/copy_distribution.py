"""Attention over positions of a source as a distribution over tokens."""

from keras import ops

from keras_attn.ops.arrays import axis_size, reshape
from keras_attn.ops.target import current


def copy_distribution(scores, source_ids, vocabulary_size):
    """The sum of the scores of all positions that hold a token: `sum_{s: source_ids[b, s] = v} scores[b, t, s]`.

    Args:
        scores: Float `(B, T, S)`.
        source_ids: Int32 `(B, S)`, within the vocabulary.
        vocabulary_size: Number of tokens `V`, an int.

    Returns:
        Float `(B, T, V)`.

    Example:

    >>> import numpy as np
    >>> scores = np.array([[[0.5, 0.25, 0.25]]], "float32")
    >>> np.asarray(copy_distribution(scores, np.array([[2, 0, 2]]), 4))
    array([[[0.25, 0.  , 0.75, 0.  ]]], dtype=float32)
    """
    source_ids = ops.cast(source_ids, "int32")
    if not current().scatter_adds:
        tokens = ops.arange(vocabulary_size, dtype="int32")
        return ops.matmul(scores, ops.cast(ops.equal(ops.expand_dims(source_ids, -1), tokens), scores.dtype))
    batch, length = axis_size(scores, 0), axis_size(scores, 1)
    starts = ops.expand_dims(ops.multiply(ops.arange(batch, dtype="int32"), vocabulary_size), 1)
    # Not `ops.add`: Keras may treat a second operand with one long axis as a bias.
    places = reshape(source_ids + starts, (-1,))
    # All queries of a position are one row, so that each index moves many numbers.
    columns = reshape(ops.transpose(scores, (0, 2, 1)), (batch * axis_size(scores, 2), length))
    summed = ops.segment_sum(columns, places, batch * vocabulary_size)
    return ops.transpose(reshape(summed, (batch, vocabulary_size, length)), (0, 2, 1))
