"""BERT's normalisation, word splitting and WordPiece tokenisation as graph operations."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, rows
from keras_attn.text.graph.byte_symbols import code_points, shifted
from keras_attn.text.graph.ragged_rows import packed, words
from keras_attn.text.graph.tables import CodePointTable, PairTable

# The code of a character: nothing, a space, or an even number for a letter, plus 1 if the letter is a word by itself.
NOTHING, SPACE, UNKNOWN = -1, 0, 2


class WordPieces:
    """Converts the bytes of texts to ids.

    Args:
        pieces: Dict from a piece to its id.
        inner: The prefix of pieces inside a word.
        unknown_id: The id of words that cannot be split, or are longer than `max_word`.
        max_word: The maximum number of letters per word.
        characters: The `BertCharacters`.
    """

    def __init__(self, pieces, inner, unknown_id, max_word, characters):
        letters = {letter: UNKNOWN + 2 * i for i, letter in enumerate(sorted(set("".join(pieces))), 1)}
        self.characters, self.width = self._table(letters, characters), int(characters.lengths.max())
        self.unknown_id, self.max_word = unknown_id, max_word
        # Two tries in one: node 0 is the root for the start of a word, node 1 for its inside.
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
        """Converts bytes `(B, S)` to ids, int32 `(B, L)`, both right-padded with -1."""
        points = code_points(symbols)
        found = ops.where(ops.expand_dims(points >= 0, -1), self.characters(points), NOTHING)
        found = ops.reshape(found, (axis_size(symbols, 0), axis_size(symbols, 1) * self.width))
        found = packed(found, found != NOTHING)
        letters, before = found > SPACE, shifted(found, 1, SPACE)
        starts = letters & ((ops.mod(found, 2) == 1) | (before == SPACE) | (ops.mod(before, 2) == 1))
        found = words(ops.where(ops.mod(found, 2) == 1, found - 1, found), letters, starts)
        size, count, length = ops.shape(found)
        ids = ops.reshape(self.split(ops.reshape(found, (size * count, length))), (size, -1))
        return packed(ids, ids >= 0)

    @staticmethod
    def _table(letters, characters):
        """The codes of each code point, as a `CodePointTable`."""
        numbers = np.full(0x110000, UNKNOWN, np.int32)
        numbers[_points("".join(letters))] = list(letters.values())
        numbers[_points(characters.alone)] += 1
        numbers[_points(characters.spaces)] = SPACE
        lengths = characters.lengths
        starts = np.cumsum(lengths) - lengths
        table = np.full((len(lengths), lengths.max()), NOTHING, np.int32)
        column = np.arange(len(characters.text)) - np.repeat(starts, lengths)
        table[np.repeat(np.arange(len(lengths)), lengths), column] = numbers[_points(characters.text)]
        return CodePointTable(table)

    def split(self, letters):
        """Splits each row greedily into the longest pieces; int32 `(W, L)`, -1 if no piece begins at a letter."""
        letters = letters[:, : self.max_word + 1]
        columns = ops.expand_dims(ops.arange(axis_size(letters, 1), dtype="int32"), 0)
        lengths = ops.sum(ops.cast(letters >= 0, "int32"), axis=1, keepdims=True)
        none, zero = ops.full_like(lengths, -1), ops.zeros_like(lengths)

        def unfinished(ids, begin, place, node, end, piece):
            return ops.any(begin < lengths)

        def advance(ids, begin, place, node, end, piece):
            """Advances to the next letter. If none fits, emits the last piece found and restarts after it."""
            letter = ops.sum(ops.where(columns == place, letters + 1, 0), axis=1, keepdims=True) - 1
            following = self.edges(node, letter)
            fits = following >= 0
            known = ops.where(fits, rows(self.ids, ops.maximum(following, 0)), -1)
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
