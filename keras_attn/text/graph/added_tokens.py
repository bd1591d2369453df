"""Added tokens that are found in texts, as graph operations."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, rows, take_columns
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.elements import (
    BARRIER,
    TOKEN,
    columns_of,
    in_table,
    is_character,
    last_where,
    next_where,
    reached,
    with_end,
)
from keras_attn.text.graph.ragged_rows import packed, rows_of
from keras_attn.text.graph.regular_expressions import members
from keras_attn.text.graph.tables import CodePointTable, PairTable


class AddedTokens:
    """Replaces the leftmost longest added tokens by their elements.

    Args:
        tokens: Dict from the text of a token to its entry in the `tokenizer.json`.
        hidden: The ids of tokens that are text if they are found.
    """

    def __init__(self, tokens, hidden):
        letters = {letter: i for i, letter in enumerate(sorted(set("".join(tokens))))}
        table = np.full((BARRIER, 1), -1, np.int32)
        for letter, i in letters.items():
            table[ord(letter)] = i
        self.letters = CodePointTable(table)
        edges, ends = {}, {}
        for text, token in tokens.items():
            node = 0
            for letter in text:
                node = edges.setdefault((node, letters[letter]), len(edges) + 1)
            ends[node] = token
        self.edges = PairTable(edges)
        nodes = [ends.get(node) for node in range(len(edges) + 1)]
        self.ids = np.array([-1 if token is None else token["id"] for token in nodes], np.int32)
        self.hidden = np.array([token is not None and token["id"] in hidden for token in nodes], bool)
        self.flags = {
            name: np.array([bool(token) and token[name] for token in nodes], bool)
            for name in ("single_word", "lstrip", "rstrip")
        }
        self.spaces, self.word_letters = _table(r"\s"), _table(r"\w")

    def __call__(self, elements):
        elements = with_end(elements)
        columns, real = columns_of(elements), is_character(elements)
        node, length = self._longest(elements, real)
        last = axis_size(elements, 1) - 1
        jumps = ops.where(node > 0, columns + length, ops.minimum(columns + 1, last))
        accepted = (reached(jumps) == 1) & (node > 0) & ~in_table(self.hidden, node)
        ends = ops.where(accepted, columns + length, columns)
        if self.flags["single_word"].any():
            letter = ops.cast(self._is(self.word_letters, elements, real), "int32")
            inside = (shifted(letter, 1, 0) == 1) | (take_columns(letter, ends) == 1)
            accepted = accepted & ~(in_table(self.flags["single_word"], node) & inside)
        ends = ops.where(accepted, columns + length, columns)
        starts = columns
        if self.flags["lstrip"].any() or self.flags["rstrip"].any():
            space = self._is(self.spaces, elements, real)
            before = shifted(last_where(~space), 1) + 1
            starts = ops.where(accepted & in_table(self.flags["lstrip"], node), before, columns)
            behind = take_columns(next_where(~space), ends)
            ends = ops.where(accepted & in_table(self.flags["rstrip"], node), behind, ends)
        covered = self._covered(starts, ends, accepted)
        ids = rows(self.ids, node)
        found = ops.where(accepted, TOKEN + ids, elements)
        return packed(found, (elements >= 0) & (accepted | ~covered))

    def _is(self, table, elements, real):
        found = ops.squeeze(table(ops.minimum(elements, BARRIER - 1)), -1)
        return (found == 1) & real

    def _longest(self, elements, real):
        """The node of the longest token that begins at each column, 0 if none does, and its length."""
        letters = ops.squeeze(self.letters(ops.minimum(elements, BARRIER - 1)), -1)
        letters = ops.where(real, letters, -1)
        nothing = ops.zeros_like(elements)

        def unfinished(depth, node, ahead, best, length):
            return ops.any(node >= 0)

        def advance(depth, node, ahead, best, length):
            node = self.edges(node, ahead)
            ends = (node >= 0) & (rows(self.ids, ops.maximum(node, 0)) >= 0)
            best, length = ops.where(ends, node, best), ops.where(ends, depth + 1, length)
            return depth + 1, node, shifted(ahead, -1), best, length

        state = (ops.zeros((), "int32"), ops.where(real, 0, -1), letters, nothing, nothing)
        return ops.while_loop(unfinished, advance, state)[3:]

    @staticmethod
    def _covered(starts, ends, accepted):
        """Which columns are part of a token or of its spaces."""
        size, width = axis_size(starts, 0), axis_size(starts, 1)
        row = rows_of(starts)
        marks = ops.cast(accepted, "int32")
        edges = ops.zeros_like(starts)
        for columns, sign in ((starts, 1), (ends, -1)):
            indices = ops.reshape(ops.stack([row, columns], axis=-1), (-1, 2))
            edges = edges + sign * ops.scatter(indices, ops.reshape(marks, (-1,)), [size, width])
        return ops.cumsum(edges, axis=1) > 0


def _table(text):
    return CodePointTable(members(text).astype(np.int32)[:, None])
