"""Normalisers that replace each character by a text, whatever its neighbours are."""

import functools
import json

import numpy as np
from keras import ops

from keras_attn.extras import require
from keras_attn.ops.arrays import rows, take_columns
from keras_attn.text.graph.elements import BARRIER, expanded, is_character
from keras_attn.text.graph.tables import CodePointTable

POINTS, BLOCK = 0x110000, 0x800
# No normaliser changes these letters, and no character of Unicode combines with them.
MARKS = ("\ua66e", "q", "\u4e00")


class CharacterMap:
    """Replaces characters by texts.

    Args:
        texts: List of 0x110000 strings, the text of each code point.
    """

    def __init__(self, texts):
        changed = [(point, text) for point, text in enumerate(texts) if text != chr(point)]
        known = {}
        table = np.zeros((POINTS, 1), np.int32)
        for point, text in changed:
            table[point] = known.setdefault(text, len(known) + 1)
        self.rows = CodePointTable(table)
        self.lengths = np.array([1, *map(len, known)], np.int32)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths[:-1])]).astype(np.int32)
        self.text = np.array([0, *map(ord, "".join(known))], np.int32)
        self.is_identity, self.keeps_lengths = not changed, bool(np.all(self.lengths == 1))

    def __call__(self, elements):
        if self.is_identity:
            return elements
        real = is_character(elements)
        entries = ops.squeeze(self.rows(ops.minimum(elements, BARRIER - 1)), -1)
        entries = ops.where(real, entries, 0)
        if self.keeps_lengths:
            return ops.where(entries > 0, self._characters(entries, 0), elements)
        lengths = ops.where(elements >= 0, rows(self.lengths, entries), 0)
        sources, places = expanded(lengths)
        safe = ops.maximum(sources, 0)
        entries = take_columns(entries, safe)
        found = ops.where(entries > 0, self._characters(entries, places), take_columns(elements, safe))
        return ops.where(sources >= 0, found, -1)

    def _characters(self, entries, places):
        places = rows(self.starts, entries) + places
        return rows(self.text, ops.minimum(places, len(self.text) - 1))


@functools.lru_cache(maxsize=32)
def texts_of(settings: str) -> tuple[str, ...]:
    """What a normaliser of the `tokenizers` library, given as JSON, makes of each code point by itself."""
    library = require("tokenizers", "text")
    shell = {"model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}, "normalizer": json.loads(settings)}
    shell |= {"version": "1.0", "added_tokens": [], "pre_tokenizer": None, "post_processor": None, "decoder": None}
    normalizer = library.Tokenizer.from_str(json.dumps(shell)).normalizer
    mark = next(mark for mark in MARKS if normalizer.normalize_str(mark) == mark)
    found = []
    for start in range(0, POINTS, BLOCK):
        block = ["" if start == 0xD800 or point == ord(mark) else chr(point) for point in range(start, start + BLOCK)]
        found += normalizer.normalize_str(mark + mark.join(block) + mark).split(mark)[1:-1]
    found[ord(mark)] = mark
    return tuple(found)
