"""BERT's normalisation and splitting of a text, and the pieces of its words."""

import numpy as np
from keras import ops

from keras_attn.text.graph.byte_symbols import code_points, shifted
from keras_attn.text.graph.rows import packed, words
from keras_attn.text.graph.tables import CodePointTable, PairTable

# What a character becomes: nothing, a space, or an even number for a letter and the odd one behind it where the
# letter is a word of its own.
NOTHING, SPACE, UNKNOWN = -1, 0, 2


class WordPieces:
    """Ids of texts that came as bytes.

    Args:
        pieces: dict from a piece to its id.
        inner: what the pieces inside of a word begin with.
        unknown_id: the id of words that cannot be split, and of longer ones than `max_word`.
        max_word: letters.
        characters: `BertCharacters`.
    """

    def __init__(self, pieces, inner, unknown_id, max_word, characters):
        letters = {letter: UNKNOWN + 2 * i for i, letter in enumerate(sorted(set("".join(pieces))), 1)}
        self.characters, self.width = self._table(letters, characters), int(characters.lengths.max())
        self.unknown_id, self.max_word = unknown_id, max_word
        # Two tries in one: from node 0 for the beginning of a word, from node 1 for its inside.
        edges, ids = {}, {}
        for piece, i in pieces.items():
            is_inner = piece.startswith(inner) and piece != inner
            node = int(is_inner)
            for letter in piece.removeprefix(inner) if is_inner else piece:
                node = edges.setdefault((node, letters[letter]), len(edges) + 2)
            ids[node] = i
        self.edges = PairTable(edges)
        self.ids = np.array([ids.get(node, -1) for node in range(len(edges) + 2)], np.int32)

    def __call__(self, symbols):
        """int32 `(B, L)` of bytes `(B, S)`; -1 behind, both."""
        points = code_points(symbols)
        found = ops.where(ops.expand_dims(points >= 0, -1), self.characters(points), NOTHING)
        found = ops.reshape(found, (ops.shape(symbols)[0], ops.shape(symbols)[1] * self.width))
        found = packed(found, found != NOTHING)
        letters, before = found > SPACE, shifted(found, 1, SPACE)
        starts = letters & ((ops.mod(found, 2) == 1) | (before == SPACE) | (ops.mod(before, 2) == 1))
        found = words(ops.where(ops.mod(found, 2) == 1, found - 1, found), letters, starts)
        size, count, length = ops.shape(found)
        ids = ops.reshape(self._split(ops.reshape(found, (size * count, length))), (size, -1))
        return packed(ids, ids >= 0)

    @staticmethod
    def _table(letters, characters):
        """What each code point becomes, as a `CodePointTable`."""
        numbers = np.full(0x110000, UNKNOWN, np.int32)
        numbers[_points("".join(letters))] = list(letters.values())
        numbers[_points(characters.alone)] += 1
        numbers[_points(characters.spaces)] = SPACE
        lengths = characters.lengths
        starts = np.cumsum(lengths) - lengths
        rows = np.full((len(lengths), lengths.max()), NOTHING, np.int32)
        column = np.arange(len(characters.text)) - np.repeat(starts, lengths)
        rows[np.repeat(np.arange(len(lengths)), lengths), column] = numbers[_points(characters.text)]
        return CodePointTable(rows)

    def _split(self, letters):
        """Each row into the longest pieces from left to right, int32 `(W, L)`, -1 where no piece begins."""
        letters = letters[:, : self.max_word + 1]
        columns = ops.expand_dims(ops.arange(ops.shape(letters)[1], dtype="int32"), 0)
        lengths = ops.sum(ops.cast(letters >= 0, "int32"), axis=1, keepdims=True)
        none, zero = ops.full_like(lengths, -1), ops.zeros_like(lengths)

        def unfinished(ids, begin, place, node, end, piece):
            return ops.any(begin < lengths)

        def advance(ids, begin, place, node, end, piece):
            """Goes on with the next letter; where none fits, keeps the last piece and begins behind it."""
            letter = ops.sum(ops.where(columns == place, letters + 1, 0), axis=1, keepdims=True) - 1
            following = self.edges(node, letter)
            fits = following >= 0
            known = ops.where(fits, ops.take(self.ids, ops.maximum(following, 0), axis=0), -1)
            piece, end = ops.where(known >= 0, known, piece), ops.where(known >= 0, place + 1, end)
            failed = ~fits & (piece < 0) & (begin < lengths)
            ids = ops.where(~fits & (columns == begin), piece, ids)
            ids = ops.where(failed, ops.where(columns == 0, self.unknown_id, -1), ids)
            begin = ops.where(fits, begin, ops.where(failed, lengths, end))
            place = ops.where(fits, place + 1, begin)
            node = ops.where(fits, following, 1)
            return ids, begin, place, node, ops.where(fits, end, begin), ops.where(fits, piece, none)

        too_long = lengths > self.max_word
        ids = ops.where(too_long & (columns == 0), self.unknown_id, ops.full_like(letters, -1))
        begin = ops.where(too_long, lengths, zero)
        return ops.while_loop(unfinished, advance, (ids, begin, begin, zero, begin, none))[0]


def _points(text):
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
