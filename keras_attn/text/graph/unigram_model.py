"""Unigram models as graph operations."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, rows
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.elements import BARRIER, is_character
from keras_attn.text.graph.ragged_rows import packed
from keras_attn.text.graph.regular_expressions import UnsupportedExpressionError
from keras_attn.text.graph.tables import CodePointTable, PairTable
from keras_attn.text.graph.words_of_elements import WordsOfElements

# By how much a character without a piece scores worse than the worst piece.
PENALTY = 10.0
LOWEST = -1e30
# The letter of characters that are in no piece.
OTHER = 0


class UnigramModel:
    """Splits each word into the pieces of the highest sum of scores.

    All pieces that begin at any letter are found first, by one step in a trie per letter of the longest piece. The best
    score of each beginning of a word follows from those before it.

    Args:
        model: The section of the `tokenizer.json`.
    """

    def __init__(self, model):
        vocab, self.unknown_id = model["vocab"], model.get("unk_id")
        if self.unknown_id is None:
            raise UnsupportedExpressionError("A unigram model without `unk_id` has no form in graphs.")
        letters = {letter: i for i, letter in enumerate(sorted({c for piece, _ in vocab for c in piece}), 1)}
        edges, ids = {}, {}
        for i, (piece, _) in enumerate(vocab):
            node = 0
            for letter in piece:
                node = edges.setdefault((node, letters[letter]), len(edges) + 1)
            ids[node] = i
        ids.pop(0, None)
        self.edges = PairTable(edges)
        self.depth = max(len(piece) for piece, _ in vocab)
        scores = np.array([score for _, score in vocab], np.float64)
        self.ids = np.array([ids.get(node, -1) for node in range(len(edges) + 1)], np.int32)
        self.scores = np.where(self.ids >= 0, scores[np.maximum(self.ids, 0)], LOWEST).astype(np.float32)
        self.unknown_score = float(scores.min() - PENALTY)
        self.bytes = self._bytes(model)
        table = np.full((BARRIER, 1), OTHER, np.int32)
        for letter, i in letters.items():
            table[ord(letter)] = i
        self.letters = CodePointTable(table)
        self.ids_of_words = WordsOfElements(self._word_ids, self._letters)

    def __call__(self, elements):
        return self.ids_of_words(elements)

    def _bytes(self, model):
        names = {piece for piece, _ in model["vocab"]}
        if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in names for byte in range(256)):
            raise UnsupportedExpressionError("A unigram model with `byte_fallback` has no form in graphs.")

    def _letters(self, elements):
        return ops.squeeze(self.letters(ops.where(is_character(elements), elements, 0)), -1)

    def _word_ids(self, letters):
        """The ids of each word, int32 `(W, L)`."""
        pieces, scores = self._pieces(letters)
        lengths = self._best_lengths(letters, scores)
        return self._read_back(letters, pieces, lengths)

    def _pieces(self, letters):
        """The piece of each length that ends at each letter, and its score; `(L, W, depth)`.

        Lengths are ordered from the longest on, because of equal scores the earliest beginning wins.
        """
        node, ids, scores = ops.where(letters >= 0, 0, -1), [], []
        for length in range(1, self.depth + 1):
            node = self.edges(node, shifted(letters, 1 - length) if length > 1 else letters)
            found = rows(self.ids, ops.maximum(node, 0))
            found = ops.where(node >= 0, found, -1)
            score = ops.where(node >= 0, rows(self.scores, ops.maximum(node, 0)), LOWEST)
            if length == 1:
                lacks = (found < 0) & (letters >= 0)
                found = ops.where(lacks, self.unknown_id, found)
                score = ops.where(lacks, self.unknown_score, score)
            else:
                found, score = shifted(found, length - 1), shifted(score, length - 1, LOWEST)
            ids.insert(0, found)
            scores.insert(0, score)
        axes = (1, 0, 2)
        return ops.transpose(ops.stack(ids, axis=-1), axes), ops.transpose(ops.stack(scores, axis=-1), axes)

    def _best_lengths(self, letters, scores):
        """The length of the last piece of the best way to each letter; int32 `(L, W)`."""
        width = axis_size(letters, 1)
        window = ops.concatenate(
            [ops.full((axis_size(letters, 0), self.depth - 1), LOWEST), ops.zeros((axis_size(letters, 0), 1))], axis=1
        )
        lengths = ops.transpose(ops.zeros_like(letters))
        places = ops.expand_dims(ops.arange(width, dtype="int32"), 1)

        def unfinished(place, window, lengths):
            return place < width

        def advance(place, window, lengths):
            sums = window + rows(scores, place)
            most = ops.max(sums, axis=1, keepdims=True)
            # On floats, Keras' argmax has operators that the formats lack.
            best = ops.cast(ops.argmax(ops.cast(sums == most, "int32"), axis=1), "int32")
            lengths = ops.where(places == place, ops.expand_dims(self.depth - best, 0), lengths)
            window = ops.concatenate([window[:, 1:], most], axis=1)
            return place + 1, window, lengths

        return ops.while_loop(unfinished, advance, (ops.zeros((), "int32"), window, lengths))[2]

    def _read_back(self, letters, pieces, lengths):
        """Follows the best way from the end of each word; unknown letters side by side have one id."""
        width = axis_size(letters, 1)
        left = ops.sum(ops.cast(letters >= 0, "int32"), axis=1)
        places = ops.expand_dims(ops.arange(width, dtype="int32"), 1)

        def unfinished(left, found):
            return ops.any(left > 0)

        def step(left, found):
            here = places == ops.expand_dims(left - 1, 0)
            length = ops.sum(ops.where(here, lengths, 0), axis=0)
            found = ops.where(here, lengths, found)
            return ops.where(left > 0, left - length, left), found

        _, chosen_lengths = ops.while_loop(unfinished, step, (left, ops.zeros_like(lengths)))
        slots = np.arange(self.depth, 0, -1, dtype=np.int32)
        here = ops.expand_dims(chosen_lengths, -1) == slots
        ids = ops.transpose(ops.sum(ops.where(here, pieces + 1, 0), axis=-1) - 1)
        ids = packed(ids, ids >= 0)
        repeats = (ids == self.unknown_id) & (shifted(ids, 1) == self.unknown_id)
        return packed(ids, (ids >= 0) & ~repeats)
