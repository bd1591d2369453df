"""GPT-2's pre-tokenisation and byte-pair merging as graph operations."""

import functools

import numpy as np
from keras import ops

from keras_attn.ops.arrays import rows
from keras_attn.text.graph.byte_symbols import code_points, shifted, valid_utf8
from keras_attn.text.graph.merges import Merges
from keras_attn.text.graph.ragged_rows import packed, words
from keras_attn.text.graph.regular_expressions import members
from keras_attn.text.graph.tables import CodePointTable

OTHER, LETTER, NUMBER, SPACE = range(4)
CONTRACTIONS = ("s", "t", "m", "d", "re", "ve", "ll")


class BytePairs:
    """Converts the bytes of texts to ids.

    Args:
        byte_ids: Integer array `(256,)`, the id of each byte, or -1 if it has none.
        merges: List of `(left id, right id, merged id)`, by decreasing priority.
        classes: Integer array `(0x110000,)`, the result of `character_classes`.
        add_prefix_space: Whether to add a space before each text that does not start with one.
    """

    def __init__(self, byte_ids, merges, classes, add_prefix_space):
        self.byte_ids = np.array(byte_ids, np.int32)
        # Operators lose a NUL between other bytes, so it is dropped everywhere.
        self.byte_ids[0] = -1
        self.merge = Merges(merges)
        self.classes = CodePointTable(classes[:, None])
        self.add_prefix_space = add_prefix_space

    def __call__(self, symbols):
        """Converts bytes `(B, S)` to ids, int32 `(B, L)`, both right-padded with -1."""
        symbols = valid_utf8(symbols)
        if self.add_prefix_space:
            lacks = (symbols[:, :1] >= 0) & (symbols[:, :1] != ord(" "))
            space = ops.where(lacks, ord(" "), -1)
            symbols = ops.concatenate([space, symbols], axis=1)
            symbols = packed(symbols, symbols >= 0)
        ids = ops.where(symbols >= 0, rows(self.byte_ids, ops.maximum(symbols, 0)), -1)
        found = words(ids, ids >= 0, self._starts(symbols))
        size, count, length = ops.shape(found)
        ids = ops.reshape(self.merge(ops.reshape(found, (size * count, length))), (size, count * length))
        return packed(ids, ids >= 0)

    def _starts(self, symbols):
        """The first bytes of the words that GPT-2's regular expression finds, bool `(B, S)`.

        A character's two neighbours decide, except for contractions: an apostrophe with one or two letters.
        """
        points, real = code_points(symbols), symbols >= 0
        leads, kinds = points >= 0, ops.squeeze(self.classes(points), -1)
        # All bytes of a character share its class and the class of the next character.
        following = shifted(ops.where(leads, kinds, -1), -1)
        inner = shifted(ops.cast(real & ~leads, "int32"), -1, 0) == 1
        for _ in range(3):
            kinds = ops.where(leads, kinds, shifted(kinds, 1))
            following = ops.where(inner, shifted(following, -1), following)
        previous = shifted(kinds, 1)
        is_space, after_space = kinds == SPACE, previous == SPACE
        # The last of several spaces belongs to the next word.
        starts = is_space & (following >= 0) & (following != SPACE)
        # Runtimes cannot select between booleans.
        starts |= (previous != kinds) & ~(after_space & (shifted(symbols, 1) == ord(" ")))
        starts &= leads
        for ending in CONTRACTIONS:
            here = starts & (symbols == ord("'"))
            for i, character in enumerate(ending, 1):
                here &= shifted(symbols, -i) == ord(character)
            marks = ops.cast(here, "int32")
            starts &= shifted(marks, 1, 0) == 0
            starts |= (shifted(marks, len(ending) + 1, 0) == 1) & real
        return starts


@functools.cache
def character_classes():
    """The class of each code point in GPT-2's regular expression, according to the `tokenizers` library."""
    classes = np.full(0x110000, OTHER, np.int8)
    for expression, kind in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
        classes[members(expression)] = kind
    return classes
