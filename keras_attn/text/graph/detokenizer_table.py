"""The texts of tokens as a table of strings, which an exported model looks up and joins."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, rows
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.ragged_rows import packed

REPLACEMENT = "\ufffd".encode()
NOTHING = b""


class DetokenizerTable:
    """Converts ids to rows of a table of strings, whose concatenation is the text.

    A token may have another text as the first of a row. If a token is not valid UTF-8 by itself, its stray bytes are
    separate strings, because they may form a character with those of its neighbours.

    Args:
        anywhere, first: Lists of bytes, one per id, from `Tokenizer.readings`.
        opening: List of bool, from `Tokenizer.opening`.
        start_id, end_id, unknown_id: Those of the `Tokenizer`.

    Attributes:
        strings: List of bytes, the table.
    """

    def __init__(self, anywhere, first, opening, start_id, end_id, unknown_id):
        self.start_id, self.end_id, self.vocabulary_size = start_id, end_id, len(anywhere)
        parts = [_parts(reading) for reading in (*anywhere, *first)]
        self.strings = list(dict.fromkeys([NOTHING, REPLACEMENT, *(part for found in parts for part in found)]))
        rows = {string: i for i, string in enumerate(self.strings)}
        self.width = max(1, max(map(len, parts)))
        self.rows = np.zeros((len(parts), self.width), np.int32)
        for i, found in enumerate(parts):
            self.rows[i, : len(found)] = [rows[part] for part in found]
        self.opens = np.array(opening, np.int32)
        self.opens_before = self.opens.copy()
        if unknown_id is not None:
            self.opens_before[unknown_id] = 1
        # The value of a stray byte, or -1 for text.
        self.bytes = np.array([s[0] if len(s) == 1 and s[0] > 127 else -1 for s in self.strings], np.int32)

    def __call__(self, ids, after=None):
        """Converts ids to indices in `strings`, int32 `(B, L * width)`.

        Args:
            ids: Int32 `(B, L)`, or `(B, n, L)`, which gives `B * n` rows.
            after: Optional int32 `(B, S)`, ids that the rows continue; see `Tokenizer.decode`.
        """
        opened = ops.zeros_like(ids[..., :1])
        if after is not None:
            known = ops.max(rows(self.opens_before, after), axis=1, keepdims=True)
            opened = opened + (known if len(ids.shape) == 2 else ops.expand_dims(known, 1))
        length = axis_size(ids, -1)
        ids, opened = ops.reshape(ids, (-1, length)), ops.reshape(opened, (-1, 1))
        opens = rows(self.opens, ids)
        first = ops.cast(ops.cumsum(opens, axis=1) - opens + opened == 0, "int32")
        pieces = rows(self.rows, ids + self.vocabulary_size * first)
        if self.end_id is not None:
            is_end = ops.cast(ids == self.end_id, "int32")
            if self.start_id == self.end_id and after is None:
                columns = ops.expand_dims(ops.arange(axis_size(ids, 1), dtype="int32"), 0)
                is_end = ops.where(columns == 0, 0, is_end)
            pieces = ops.where(ops.expand_dims(ops.cumsum(is_end, axis=1), -1) > 0, 0, pieces)
        pieces = ops.reshape(pieces, (axis_size(ids, 0), length * self.width))
        return self._repaired(pieces) if np.any(self.bytes >= 0) else pieces

    def _repaired(self, pieces):
        """Replaces bytes that do not form a character by U+FFFD, as Python's decoder does."""
        pieces = packed(pieces, pieces != 0, width=axis_size(pieces, 1))
        pieces = ops.maximum(pieces, 0)
        lead = rows(self.bytes, pieces)
        second, third, fourth = (shifted(lead, -i) for i in (1, 2, 3))
        wanted = sum(ops.cast((lead >= low) & (lead < 0xF5), "int32") for low in (0xC2, 0xE0, 0xF0))
        low = ops.where(lead == 0xE0, 0xA0, ops.where(lead == 0xF0, 0x90, 0x80))
        high = ops.where(lead == 0xED, 0x9F, ops.where(lead == 0xF4, 0x8F, 0xBF))
        found = ops.cast((wanted > 0) & (second >= low) & (second <= high), "int32")
        more = found * ops.cast((wanted > 1) & _continues(third), "int32")
        found += more * (1 + ops.cast((wanted > 2) & _continues(fourth), "int32"))
        whole = ops.cast((wanted > 0) & (found == wanted), "int32")
        # A byte is inside a character if the sequence from its lead byte is long enough to reach it.
        inside = in_whole = ops.zeros_like(lead)
        for i in (1, 2, 3):
            reached = ops.cast(shifted(found, i, 0) >= i, "int32")
            inside, in_whole = inside + reached, in_whole + reached * shifted(whole, i, 0)
        kept = (lead < 0) | (whole + in_whole > 0)
        replaced = ops.where(inside > 0, self.strings.index(NOTHING), self.strings.index(REPLACEMENT))
        return ops.where(kept, pieces, replaced)


def _continues(byte):
    return (byte >= 0x80) & (byte < 0xC0)


def _parts(reading):
    """Splits the bytes of a token into runs of text and stray bytes."""
    parts, text = [], ""
    for character in reading.decode("utf-8", "surrogateescape"):
        if "\udc80" <= character <= "\udcff":
            parts += [text.encode()] * bool(text) + [bytes([ord(character) - 0xDC00])]
            text = ""
        else:
            text += character
    return parts + [text.encode()] * bool(text)
