"""Rows of unequal lengths as int32 matrices with -1 behind each row."""

from keras import ops


def packed(values, keep, width=None):
    """Moves what is to keep to the front of its row.

    Args:
        values: int32 `(B, S)`, none negative where kept.
        keep: bool `(B, S)`.
        width: columns of the result; as many as the longest row needs, and one at least, where None.

    Returns:
        int32 `(B, width)`, -1 behind.
    """
    places = ops.cumsum(ops.cast(keep, "int32"), axis=1) - 1
    if width is None:
        width = ops.maximum(ops.max(places) + 1, 1)
    size = ops.shape(values)[0]
    return _placed(values, keep, [_rows(values), places], [size, width])


def words(symbols, keep, starts):
    """Splits rows into words.

    Args:
        symbols: int32 `(B, S)`, none negative where kept.
        keep: bool `(B, S)`, which symbols the words have.
        starts: bool `(B, S)`, where a word begins.

    Returns:
        int32 `(B, N, L)`, -1 behind a word.
    """
    size, rows = ops.shape(symbols)[0], _rows(symbols)
    word = ops.cumsum(ops.cast(starts, "int32"), axis=1) - 1
    count = ops.maximum(ops.max(word) + 1, 1)
    kept = ops.cumsum(ops.cast(keep, "int32"), axis=1)
    before = _placed(kept - ops.cast(keep, "int32"), starts, [rows, word], [size, count])
    flat = ops.reshape(rows * count + ops.maximum(word, 0), (-1,))
    before = ops.reshape(ops.take(ops.reshape(before, (-1,)), flat), ops.shape(symbols))
    places = kept - 1 - before
    length = ops.maximum(ops.max(ops.where(keep, places, 0)) + 1, 1)
    return _placed(symbols, keep, [rows, word, places], [size, count, length])


def framed(ids, prefix, suffix, pad_id):
    """Puts special ids around each row, and `pad_id` behind."""
    lengths = ops.sum(ops.cast(ids >= 0, "int32"), axis=1, keepdims=True) + len(prefix)
    if prefix or suffix:
        ids = ops.pad(ids, [[0, 0], [len(prefix), len(suffix)]], constant_values=-1)
        columns = ops.expand_dims(ops.arange(ops.shape(ids)[1], dtype="int32"), 0)
        for i, token in enumerate(prefix):
            ids = ops.where(columns == i, token, ids)
        for i, token in enumerate(suffix):
            ids = ops.where(columns == lengths + i, token, ids)
    # A row without ids of its own still has a column for them.
    longest = ops.maximum(ops.max(lengths) + len(suffix), 1)
    return ops.where(ids < 0, pad_id, ids)[:, :longest]


def _rows(values):
    """The index of its row for each value."""
    return ops.expand_dims(ops.arange(ops.shape(values)[0], dtype="int32"), 1) + ops.zeros_like(values)


def _placed(values, keep, indices, shape):
    """A tensor of `shape` with the kept `values` at `indices`, and -1 elsewhere."""
    # What is not kept goes to a column of its own.
    *others, last = indices
    indices = ops.stack([*others, ops.where(keep, last, shape[-1])], axis=-1)
    indices = ops.reshape(ops.maximum(indices, 0), (-1, len(shape)))
    found = ops.scatter(indices, ops.reshape(values + 1, (-1,)), [*shape[:-1], shape[-1] + 1])
    return found[..., : shape[-1]] - 1
