"""Tokens that would complete one of several sequences."""

import numpy as np
from keras import ops

from keras_attn.argument_checks import check_ids
from keras_attn.ops.arrays import reshape

# Wildcard id, which matches any token.
_ANY = -3


def check_sequences(sequences):
    """Raises a ValueError unless `sequences` is a non-empty tuple of non-empty tuples of tokens."""
    if not isinstance(sequences, tuple) or not sequences:
        raise ValueError(
            f"`sequences` must be a non-empty tuple of tuples of tokens. Received: sequences={sequences!r}"
        )
    for sequence in sequences:
        check_ids(sequences=sequence)


def context_length(sequences):
    """Number of previous tokens needed to match all sequences."""
    return max(1, *(len(sequence) - 1 for sequence in sequences))


def completions(sequences, weights, last, vocabulary_size):
    """The sum, for each token, of the weights of the sequences that it would complete.

    Args:
        sequences: Tuple of tuples of tokens.
        weights: One number per sequence.
        last: Int32 `(R, context_length(sequences))`, the last tokens of each row.
        vocabulary_size: `V`.

    Returns:
        Float32 `(R, V)`.
    """
    beginnings = np.full((len(sequences), last.shape[1]), _ANY, np.int32)
    for row, (*beginning, _) in zip(beginnings, sequences, strict=True):
        row[len(row) - len(beginning) :] = beginning
    beginnings = beginnings[None]
    same = ops.logical_or(ops.equal(ops.expand_dims(last, 1), beginnings), ops.convert_to_tensor(beginnings == _ANY))
    found = ops.cast(ops.all(same, axis=-1), "float32") * np.asarray([weights], "float32")
    # Gathers and sums the sequences of each token, since quantisation may round a matrix product.
    tokens, token_of = np.unique([sequence[-1] for sequence in sequences], return_inverse=True)
    groups = [np.flatnonzero(token_of == i) for i in range(len(tokens))]
    places = np.full((len(tokens), max(map(len, groups))), len(sequences), np.int32)
    for row, group in zip(places, groups, strict=True):
        row[: len(group)] = group
    sums = ops.sum(reshape(_take(found, places.reshape(-1)), (-1, *places.shape)), axis=-1)
    columns = np.full(vocabulary_size, len(tokens), np.int32)
    columns[tokens] = np.arange(len(tokens))
    return _take(sums, columns)


def _take(values, columns):
    """Gathers `columns` of `values` `(R, n)`; column `n` is zero."""
    return ops.take(ops.concatenate([values, ops.zeros_like(values[:, :1])], axis=1), columns, axis=1)
