"""Ragged rows as int32 matrices, right-padded with -1."""

from keras import ops

from keras_attn.ops.arrays import axis_size, take_columns


def packed(values, keep, width=None):
    """Moves the kept values to the front of their row.

    Args:
        values: Int32 `(B, S)`. Kept values are not negative.
        keep: Bool `(B, S)`.
        width: Number of columns. Defaults to the length of the longest row, at least 1.

    Returns:
        Int32 `(B, width)`, right-padded with -1.
    """
    places = ops.cumsum(ops.cast(keep, "int32"), axis=1) - 1
    if width is None:
        width = ops.maximum(ops.max(places) + 1, 1)
    size = axis_size(values, 0)
    return _placed(values, keep, [rows_of(values), places], [size, width])


def words(symbols, keep, starts):
    """Splits rows into words.

    Args:
        symbols: Int32 `(B, S)`. Kept values are not negative.
        keep: Bool `(B, S)`, which symbols are part of a word.
        starts: Bool `(B, S)`, True at the first symbol of each word.

    Returns:
        Int32 `(B, N, L)`, the words, right-padded with -1.
    """
    size, row = axis_size(symbols, 0), rows_of(symbols)
    word = ops.cumsum(ops.cast(starts, "int32"), axis=1) - 1
    count = ops.maximum(ops.max(word) + 1, 1)
    kept = ops.cumsum(ops.cast(keep, "int32"), axis=1)
    before = _placed(kept - ops.cast(keep, "int32"), starts, [row, word], [size, count])
    before = take_columns(before, ops.maximum(word, 0))
    places = kept - 1 - before
    length = ops.maximum(ops.max(ops.where(keep, places, 0)) + 1, 1)
    return _placed(symbols, keep, [row, word, places], [size, count, length])


def add_special_tokens(ids, prefix, suffix, pad_id):
    """Adds special ids before and after each row, and right-pads with `pad_id`."""
    lengths = ops.sum(ops.cast(ids >= 0, "int32"), axis=1, keepdims=True) + len(prefix)
    if prefix or suffix:
        ids = ops.pad(ids, [[0, 0], [len(prefix), len(suffix)]], constant_values=-1)
        columns = ops.expand_dims(ops.arange(axis_size(ids, 1), dtype="int32"), 0)
        for i, token in enumerate(prefix):
            ids = ops.where(columns == i, token, ids)
        for i, token in enumerate(suffix):
            ids = ops.where(columns == lengths + i, token, ids)
    # Keep at least one column if all rows are empty.
    longest = ops.maximum(ops.max(lengths) + len(suffix), 1)
    return ops.where(ids < 0, pad_id, ids)[:, :longest]


def rows_of(values):
    """The row index of each value, int32 `(B, S)`."""
    return ops.cumsum(ops.ones_like(values), axis=0) - 1


def _placed(values, keep, indices, shape):
    """A tensor of `shape` with the kept `values` at `indices`, and -1 elsewhere."""
    # Other values go to an extra column.
    *others, last = indices
    indices = ops.stack([*others, ops.where(keep, last, shape[-1])], axis=-1)
    indices = ops.reshape(ops.maximum(indices, 0), (-1, len(shape)))
    found = ops.scatter(indices, ops.reshape(values + 1, (-1,)), [*shape[:-1], shape[-1] + 1])
    return found[..., : shape[-1]] - 1
