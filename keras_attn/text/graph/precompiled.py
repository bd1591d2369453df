"""The rules of characters of SentencePiece models, as the `tokenizers` library applies them, as graph operations."""

import base64
import functools
import json
import struct
import unicodedata

import numpy as np
from keras import ops

from keras_attn.extras import require
from keras_attn.ops.arrays import rows, take_columns
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.character_maps import CharacterMap
from keras_attn.text.graph.elements import BARRIER, columns_of, expanded, is_character, last_where, next_where
from keras_attn.text.graph.regular_expressions import UnsupportedExpressionError
from keras_attn.text.graph.tables import CodePointTable, PairTable
from keras_attn.text.pretrained.charsmaps import short_rules

# The library looks up grapheme clusters of fewer bytes as a whole, and others by character.
LONG = 6
CONTROL, PREPEND, EXTEND = 1, 2, 3
PREPENDED = (
    *range(0x600, 0x606),
    0x6DD,
    0x70F,
    0x890,
    0x891,
    0x8E2,
    0xD4E,
    0x110BD,
    0x110CD,
    0x111C2,
    0x111C3,
    0x113D1,
)
PREPENDED += (0x1193F, 0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02)


class Precompiled:
    """Replaces characters and grapheme clusters by rules.

    A short cluster that begins with the text of a rule is replaced as a whole, by the rule of the shortest such text.

    Args:
        rules: The `precompiled_charsmap`, base64.
    """

    def __init__(self, rules):
        found = short_rules(rules, LONG - 1)
        texts = [found.get(chr(point), chr(point)) if not 0xD800 <= point < 0xE000 else "" for point in range(BARRIER)]
        self.characters = CharacterMap(texts)
        singles = {text for text in found if len(text) == 1}
        # A rule of one character hides those that begin with it.
        pairs = {text: new for text, new in found.items() if len(text) > 1 and text[0] not in singles}
        if any(text[:2] not in pairs for text in pairs):
            raise UnsupportedExpressionError(
                "A `precompiled_charsmap` with rules of three characters has no form in graphs."
            )
        pairs = {text: new for text, new in pairs.items() if len(text) == 2}
        letters = {c: i for i, c in enumerate(sorted({c for text in pairs for c in text}))}
        news = list(dict.fromkeys(pairs.values()))
        numbers = {new: i for i, new in enumerate(news)}
        self.pairs = PairTable({(letters[a], letters[b]): numbers[new] for (a, b), new in pairs.items()})
        self.lengths = np.array([len(new) for new in news] or [0], np.int32)
        self.starts = (np.cumsum(self.lengths) - self.lengths).astype(np.int32)
        self.text = np.array([ord(c) for c in "".join(news)] or [0], np.int32)
        table = np.zeros((BARRIER, 3), np.int32)
        table[:, 0] = _cluster_classes()
        table[[ord(c) for c in singles], 1] = 1
        table[:, 2] = -1
        for c, i in letters.items():
            table[ord(c), 2] = i
        self.rows = CodePointTable(table)

    def __call__(self, elements):
        real = is_character(elements)
        entries = self.rows(ops.minimum(elements, BARRIER - 1))
        kind, is_single, letter = (ops.where(real, entries[..., i], (CONTROL, 0, -1)[i]) for i in range(3))
        before = shifted(kind, 1, CONTROL)
        joins = (kind == EXTEND) & (before != CONTROL) | (before == PREPEND) & (kind != CONTROL)
        joins |= (elements == ord("\n")) & (shifted(elements, 1) == ord("\r"))
        first = ~joins
        sizes = 1 + sum(ops.cast(elements >= least, "int32") for least in (0x80, 0x800, 0x10000))
        totals = ops.cumsum(sizes, axis=1)
        start = last_where(first)
        bytes_before = take_columns(totals - sizes, ops.maximum(start, 0))
        following = next_where(shifted(ops.cast(first, "int32"), -1, 1) == 1)
        short = take_columns(totals, following) - bytes_before < LONG
        # All columns know the rule of their cluster.
        one = take_columns(is_single, ops.maximum(start, 0)) == 1
        several = following > start
        rule = take_columns(self.pairs(letter, shifted(letter, -1)), ops.maximum(start, 0))
        two = (rule >= 0) & several & short & ~one
        rule = ops.maximum(rule, 0)
        columns = columns_of(elements)
        gone = several & short & (one | two) & (columns > start) & real
        lengths = ops.where(two & real, ops.where(columns == start, rows(self.lengths, rule), 0), 1)
        lengths = ops.where((elements < 0) | gone, 0, lengths)
        sources, places = expanded(lengths)
        safe = ops.maximum(sources, 0)
        # After the end of a row, `safe` is its first column.
        is_new = (sources >= 0) & (take_columns(ops.cast(two & real, "int32"), safe) == 1)
        place = rows(self.starts, take_columns(rule, safe)) + places
        new = rows(self.text, ops.minimum(place, len(self.text) - 1))
        kept = ops.where(sources >= 0, take_columns(elements, safe), -1)
        return self._replaced(kept, is_new, new)

    def _replaced(self, elements, is_new, new):
        """Replaces single characters, but those of rules, which are no characters in the meantime."""
        marked = ops.where(is_new, BARRIER + 1 + BARRIER + new, elements)
        found = self.characters(marked)
        return ops.where(found > 2 * BARRIER, found - 1 - 2 * BARRIER, found)


@functools.cache
def _extends() -> frozenset[int]:
    """The characters that continue a grapheme cluster, according to the `tokenizers` library.

    Its rules are made such that a cluster which begins with "a" is replaced by "b".
    """
    units = np.zeros(512, np.uint32)
    units[0] = 256 << 10
    units[256 ^ ord("a")] = ord("a") | 1 << 8 | (256 ^ ord("a") ^ 0x80) << 10
    units[0x80] = 1 << 31
    content = struct.pack("<I", units.nbytes) + units.tobytes() + b"b\0"
    normalizer = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}
    shell = {"model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}, "normalizer": normalizer}
    library = require("tokenizers", "text").Tokenizer.from_str(json.dumps(shell | {"added_tokens": []}))
    normalize, found = library.normalizer.normalize_str, set()
    for start in range(0, BARRIER, 0x800):
        if start == 0xD800:
            continue
        points = [point for point in range(start, start + 0x800) if point not in (0x61, 0x2E, 0x62)]
        # A stop begins a cluster, and ends those before.
        parts = normalize(".".join("a" + chr(point) for point in points)).split(".")
        found |= {point for point, part in zip(points, parts, strict=True) if part == "b"}
    return frozenset(found)


@functools.cache
def _cluster_classes():
    """The class of each character that decides where grapheme clusters begin."""
    categories = map(unicodedata.category, map(chr, range(BARRIER)))
    classes = np.array([CONTROL if category in ("Cc", "Cf", "Zl", "Zp") else 0 for category in categories], np.int32)
    classes[[*PREPENDED]] = PREPEND
    classes[[*_extends()]] = EXTEND
    return classes
