"""Byte-pair models of a `tokenizer.json`: of bytes, or of characters with bytes for unknown ones."""

import json

import numpy as np
from keras import ops

from keras_attn.extras import require
from keras_attn.ops.arrays import axis_size, rows
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.elements import BARRIER, inserted, is_character
from keras_attn.text.graph.merges import Merges
from keras_attn.text.graph.tables import CodePointTable, PairTable
from keras_attn.text.graph.words_of_elements import WordsOfElements
from keras_attn.text.pretrained.byte_alphabet import bytes_of_characters

NONE = -1


class PairModel:
    """Converts rows of elements, whose words are separate, to ids.

    Args:
        model: The section of the `tokenizer.json`.
        is_bytes: Whether the symbols are bytes, spelled as in GPT-2, rather than characters.
    """

    def __init__(self, model, is_bytes):
        self.ids, self.is_bytes = model["vocab"], is_bytes
        self.suffix = model.get("end_of_word_suffix") or ""
        self.unknown_id = self.ids.get(model.get("unk_token"), NONE)
        self.fuses = bool(model.get("fuse_unk"))
        merges = [(self.ids[left], self.ids[right], self.ids[left + right]) for left, right in model["merges"]]
        self.merge = Merges(merges)
        self.whole = _WholeWords(model, self._symbols) if model.get("ignore_merges") else None
        self.space = None if is_bytes else _splittable_space(model, self.ids)
        self._set_symbols(model)
        self.ids_of_words = WordsOfElements(self._word_ids, self._letters)

    def __call__(self, elements):
        if self.space is not None:
            # No merge crosses these places, and many short words are merged faster than a long one.
            here = (elements == self.space) & is_character(shifted(elements, 1))
            elements = inserted(elements, here & (shifted(elements, 1) != self.space), BARRIER)
        return self.ids_of_words(elements)

    def _set_symbols(self, model):
        characters = {byte: character for character, byte in bytes_of_characters().items()}
        if self.is_bytes:
            symbols = [characters[byte] for byte in range(256)]
        else:
            symbols = [f"<0x{byte:02X}>" for byte in range(256)]
        ids = [self.ids.get(symbol, NONE) for symbol in symbols]
        # Operators lose a NUL between other bytes, so it is dropped everywhere.
        self.byte_ids = np.array([NONE, *ids[1:]], np.int32)
        self.has_bytes = self.is_bytes or (bool(model.get("byte_fallback")) and NONE not in ids)
        # Which id a symbol has at the end of a word.
        last = np.arange(max(self.ids.values()) + 1, dtype=np.int32)
        if self.suffix:
            last[:] = self.unknown_id
            for symbol, i in self.ids.items():
                if len(symbol) == 1:
                    last[i] = self.ids.get(symbol + self.suffix, self.unknown_id)
        self.last = last
        if not self.is_bytes:
            table = np.full((BARRIER, 1), NONE, np.int32)
            for symbol, i in self.ids.items():
                if len(symbol) == 1:
                    table[ord(symbol)] = i
            self.characters = CodePointTable(table)

    def _letters(self, elements):
        points = ops.where(is_character(elements), elements, 0)
        values = _utf8(points) if self.has_bytes else None
        if self.is_bytes:
            return ops.where(values >= 0, rows(self.byte_ids, ops.maximum(values, 0)), NONE)
        known = ops.squeeze(self.characters(points), -1)
        if not self.has_bytes:
            return self._with_unknown(known, elements)
        found = ops.where(values >= 0, rows(self.byte_ids, ops.maximum(values, 0)), NONE)
        alone = ops.stack([known, *[ops.full_like(known, NONE)] * 3], axis=-1)
        return ops.where(ops.expand_dims(known >= 0, -1), alone, found)

    def _with_unknown(self, known, elements):
        if self.unknown_id == NONE:
            return known
        found = ops.where(known < 0, self.unknown_id, known)
        if self.fuses:
            missing = ops.cast((known < 0) & is_character(elements), "int32")
            found = ops.where((missing == 1) & (shifted(missing, 1, 0) == 1), NONE, found)
        return found

    def _word_ids(self, letters):
        if self.suffix:
            is_last = (letters >= 0) & (shifted(letters, -1) < 0)
            letters = ops.where(is_last, rows(self.last, ops.maximum(letters, 0)), letters)
        ids = self.merge(letters)
        return ids if self.whole is None else self.whole(letters, ids)

    def _symbols(self, piece):
        """The ids of the symbols of a piece, or None if one has none."""
        ids = [self.ids.get(character) for character in piece]
        return None if None in ids else ids


class _WholeWords:
    """Words that are pieces although no merges lead to them (`ignore_merges`).

    Only these are looked up, as merging gives all others.
    """

    def __init__(self, model, symbols):
        library = require("tokenizers", "text")
        merging = {**model, "ignore_merges": False, "byte_fallback": False, "unk_token": None}
        shell = {"version": "1.0", "model": merging, "added_tokens": []}
        merge = library.Tokenizer.from_str(json.dumps(shell)).model
        edges, ends, self.depth = {}, {}, 0
        for piece, i in model["vocab"].items():
            letters = symbols(piece)
            if letters is None or len(letters) < 2 or [token.id for token in merge.tokenize(piece)] == [i]:
                continue
            node = 0
            for letter in letters:
                node = edges.setdefault((node, letter), len(edges) + 1)
            ends[node] = i
            self.depth = max(self.depth, len(letters))
        self.edges = PairTable(edges) if edges else None
        self.ids = np.array([ends.get(node, NONE) for node in range(len(edges) + 1)], np.int32)

    def __call__(self, letters, ids):
        if self.edges is None:
            return ids
        node = ops.zeros_like(letters[:, 0])

        def unfinished(place, node):
            return (place < axis_size(letters, 1)) & ops.any(node >= 0)

        def advance(place, node):
            letter = ops.take(letters, place, axis=1)
            # No pair has a negative node.
            return place + 1, ops.where(letter >= 0, self.edges(node, letter), node)

        _, node = ops.while_loop(unfinished, advance, (ops.zeros((), "int32"), node))
        found = ops.where(node >= 0, rows(self.ids, ops.maximum(node, 0)), NONE)
        found = ops.expand_dims(found, 1)
        first = ops.expand_dims(ops.arange(axis_size(ids, 1), dtype="int32"), 0) == 0
        return ops.where(found >= 0, ops.where(first, found, NONE), ids)


def _splittable_space(model, ids):
    """The code point of SentencePiece's space, if no piece has one after another character."""
    space = "\u2581"
    crosses = any(not left.endswith(space) and right.startswith(space) for left, right in model["merges"])
    return ord(space) if space in ids and not crosses and not model.get("ignore_merges") else None


def _utf8(points):
    """The bytes of code points, int32 `(B, S, 4)`, with -1 for those that are not there."""

    def tail(shift):
        return 0x80 + ops.mod(ops.floor_divide(points, shift), 64)

    short, two, three = points < 0x80, points < 0x800, points < 0x10000
    lead = ops.where(two, 0xC0 + ops.floor_divide(points, 64), 0xE0 + ops.floor_divide(points, 4096))
    lead = ops.where(three, lead, 0xF0 + ops.floor_divide(points, 262144))
    first = ops.where(short, points, lead)
    second = ops.where(short, NONE, ops.where(two, tail(1), ops.where(three, tail(64), tail(4096))))
    third = ops.where(two, NONE, ops.where(three, tail(1), tail(64)))
    fourth = ops.where(three, NONE, tail(1))
    return ops.stack([first, second, third, fourth], axis=-1)
