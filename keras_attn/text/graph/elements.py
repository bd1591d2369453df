"""Texts as rows of elements: code points, barriers between words, and added tokens; int32, right-padded with -1."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, rows, take_columns
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.ragged_rows import packed, rows_of

# A barrier ends a word. The element of an added token, `TOKEN + id`, is a word by itself.
BARRIER = 0x110000
TOKEN = BARRIER + 1


def is_character(elements):
    return (elements >= 0) & (elements < BARRIER)


def columns_of(values):
    """The column index of each value, int32 `(B, S)`."""
    return ops.cumsum(ops.ones_like(values), axis=1) - 1


def next_where(flags):
    """The first column from each column on that is flagged, or the last column; int32 `(B, S)`."""
    marks = ops.cast(flags, "int32")
    columns = columns_of(marks)
    last = axis_size(marks, 1) - 1
    found = packed(columns, flags, width=last + 1)
    found = ops.where(found < 0, last, found)
    return take_columns(found, ops.cumsum(marks, axis=1) - marks)


def last_where(flags):
    """The last column up to each column that is flagged, or -1; int32 `(B, S)`."""
    marks = ops.cast(flags, "int32")
    count = ops.cumsum(marks, axis=1)
    found = packed(columns_of(marks), flags, width=axis_size(marks, 1))
    return ops.where(count > 0, take_columns(found, ops.maximum(count - 1, 0)), -1)


def reached(jumps):
    """Which columns are reached from column 0 by jumps; int32 0 or 1, `(B, S)`.

    Args:
        jumps: Int32 `(B, S)`, the next column after each. The last column leads to itself, others to the right.
    """
    size, width = axis_size(jumps, 0), axis_size(jumps, 1)
    row = rows_of(jumps)
    reach = ops.cast(columns_of(jumps) == 0, "int32")

    def unfinished(reach, jumps):
        return ops.any(jumps[:, 0] < width - 1)

    def advance(reach, jumps):
        """After `n` steps, all columns within `2 ** n` jumps are reached."""
        indices = ops.reshape(ops.stack([row, jumps], axis=-1), (-1, 2))
        more = ops.scatter(indices, ops.reshape(reach, (-1,)), [size, width])
        return ops.minimum(reach + more, 1), take_columns(jumps, jumps)

    reach, jumps = ops.while_loop(unfinished, advance, (reach, jumps))
    return advance(reach, jumps)[0]


def expanded(lengths):
    """Replaces each value of a row by as many values as `lengths` says.

    Returns:
        `(sources, places)`, int32 `(B, W)`: from which column each new value comes, -1 for padding, and its number
        among those of the column.
    """
    ends = ops.cumsum(lengths, axis=1)
    starts, kept = ends - lengths, lengths > 0
    width = ops.maximum(ops.max(ends), 1)
    size = axis_size(lengths, 0)
    row = rows_of(lengths)
    indices = ops.reshape(ops.stack([row, ops.where(kept, starts, width)], axis=-1), (-1, 2))
    marks = ops.scatter(indices, ops.ones_like(ops.reshape(lengths, (-1,))), [size, width + 1])[:, :width]
    order = packed(columns_of(lengths), kept, width=axis_size(lengths, 1))
    sources = take_columns(order, ops.maximum(ops.cumsum(marks, axis=1) - 1, 0))
    columns = columns_of(sources)
    real = columns < ends[:, -1:]
    sources = ops.where(real, sources, 0)
    places = columns - take_columns(starts, sources)
    return ops.where(real, sources, -1), places


def expanded_by(values, lengths, of_places):
    """Expands rows. `of_places(values, places)` gives the new value from the old one and the number of the copy."""
    sources, places = expanded(lengths)
    found = take_columns(values, ops.maximum(sources, 0))
    return ops.where(sources >= 0, of_places(found, places), -1)


def inserted(elements, here, value):
    """Inserts a value before the elements that are `here`."""
    marks = ops.cast(here, "int32")
    lengths = ops.cast(elements >= 0, "int32") + marks
    sources, places = expanded(lengths)
    safe = ops.maximum(sources, 0)
    is_new = (take_columns(marks, safe) == 1) & (places == 0)
    return ops.where(sources < 0, -1, ops.where(is_new, value, take_columns(elements, safe)))


def begins(elements):
    """Whether each element is the first character of a word; bool `(B, S)`."""
    return is_character(elements) & ~is_character(shifted(elements, 1))


def with_end(elements):
    """Adds a column of padding, so that every row has an end."""
    return ops.pad(elements, [[0, 0], [0, 1]], constant_values=-1)


def in_table(flags, indices):
    """Looks up a bool array; bool of the shape of `indices`, which are not negative."""
    return rows(np.asarray(flags, np.int32), indices) == 1
