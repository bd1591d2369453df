"""GPT-2's splitting of a text, and the merging of its bytes."""

import functools

import numpy as np
from keras import ops

from keras_attn.extras import require
from keras_attn.text.graph.byte_symbols import code_points, shifted, valid_utf8
from keras_attn.text.graph.rows import packed, words
from keras_attn.text.graph.tables import CodePointTable, PairTable

OTHER, LETTER, NUMBER, SPACE = range(4)
FAR = 2**30
CONTRACTIONS = ("s", "t", "m", "d", "re", "ve", "ll")


class BytePairs:
    """Ids of texts that came as bytes.

    Args:
        byte_ids: int array `(256,)`: the id of each byte, -1 where it has none.
        merges: list of `(left id, right id, id of both)`, the earliest first.
        classes: int array `(0x110000,)`: what `character_classes` gives.
        add_prefix_space: whether a text begins as if a space stood before it.
    """

    def __init__(self, byte_ids, merges, classes, add_prefix_space):
        self.byte_ids = np.array(byte_ids, np.int32)
        # Operators lose a NUL between other bytes: it is lost everywhere.
        self.byte_ids[0] = -1
        self.ranks = PairTable({merge[:2]: rank for rank, merge in enumerate(merges)})
        self.joined = np.array([merge[2] for merge in merges] or [0], np.int32)
        self.classes = CodePointTable(classes[:, None])
        self.add_prefix_space = add_prefix_space

    def __call__(self, symbols):
        """int32 `(B, L)` of bytes `(B, S)`; -1 behind, both."""
        symbols = valid_utf8(symbols)
        if self.add_prefix_space:
            lacks = (symbols[:, :1] >= 0) & (symbols[:, :1] != ord(" "))
            space = ops.where(lacks, ord(" "), -1)
            symbols = ops.concatenate([space, symbols], axis=1)
            symbols = packed(symbols, symbols >= 0)
        ids = ops.where(symbols >= 0, ops.take(self.byte_ids, ops.maximum(symbols, 0), axis=0), -1)
        found = words(ids, ids >= 0, self._starts(symbols))
        size, count, length = ops.shape(found)
        ids = ops.reshape(self._merged(ops.reshape(found, (size * count, length))), (size, count * length))
        return packed(ids, ids >= 0)

    def _starts(self, symbols):
        """Where a word begins, as GPT-2's regular expression finds them; bool `(B, S)`.

        Only two neighbours of a character matter to it, and whether an apostrophe ends a word of three bytes or less.
        """
        points, real = code_points(symbols), symbols >= 0
        leads, kinds = points >= 0, ops.squeeze(self.classes(points), -1)
        # A continuation byte is of its character's kind, and what follows the character follows each of its bytes.
        following = shifted(ops.where(leads, kinds, -1), -1)
        inner = shifted(ops.cast(real & ~leads, "int32"), -1, 0) == 1
        for _ in range(3):
            kinds = ops.where(leads, kinds, shifted(kinds, 1))
            following = ops.where(inner, shifted(following, -1), following)
        previous = shifted(kinds, 1)
        is_space, after_space = kinds == SPACE, previous == SPACE
        # The last of several spaces goes with what follows.
        starts = is_space & (following >= 0) & (following != SPACE)
        # Runtimes choose between numbers only.
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

    def _merged(self, ids):
        """Merges the pieces of each row, the pair of the lowest rank first, and of equals the leftmost."""
        columns = ops.expand_dims(ops.arange(ops.shape(ids)[1], dtype="int32"), 0)

        def unfinished(ids, ranks):
            return ops.any(ranks < FAR)

        def merge(ids, ranks):
            best = ops.min(ranks, axis=1, keepdims=True)
            place = ops.expand_dims(ops.cast(ops.argmin(ranks, axis=1), "int32"), 1)
            place = ops.where(best < FAR, place, FAR)
            both = ops.take(self.joined, ops.minimum(best, len(self.joined) - 1), axis=0)
            here, before = columns == place, columns == place - 1
            ids = ops.where(here, both, ops.where(columns > place, shifted(ids, -1), ids))
            left, right = (_chosen(ids, columns == place + by) for by in (-1, 1))
            new = self._rank(ops.concatenate([left, both], axis=1), ops.concatenate([both, right], axis=1))
            ranks = ops.where(columns > place, shifted(ranks, -1, FAR), ranks)
            return ids, ops.where(before, new[:, :1], ops.where(here, new[:, 1:], ranks))

        ranks = self._rank(ids, shifted(ids, -1))
        return ops.while_loop(unfinished, merge, (ids, ranks))[0]

    def _rank(self, left, right):
        ranks = self.ranks(left, right)
        return ops.where(ranks < 0, FAR, ranks)


@functools.cache
def character_classes():
    """The class of each code point in GPT-2's regular expression, as the `tokenizers` library has it."""
    library = require("tokenizers", "text")
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    everything = "".join(map(chr, points))
    classes = np.full(0x110000, OTHER, np.int8)
    for pattern, kind in ((r"\P{L}+", LETTER), (r"\P{N}+", NUMBER), (r"\S+", SPACE)):
        splitter = library.pre_tokenizers.Split(library.Regex(pattern), "removed")
        members = "".join(piece for piece, _ in splitter.pre_tokenize_str(everything))
        classes[[ord(character) for character in members]] = kind
    return classes


def _chosen(values, here):
    """The value of each row at the one place that is `here`, -1 where there is none; `(B, 1)`."""
    return ops.sum(ops.where(here, values + 1, 0), axis=1, keepdims=True) - 1
