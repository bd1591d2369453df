"""Unicode's normalisation forms NFC, NFD, NFKC and NFKD as graph operations."""

import functools
import json
import unicodedata

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, rows, take_columns
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.character_maps import CharacterMap, texts_of
from keras_attn.text.graph.elements import BARRIER, columns_of, is_character, last_where, next_where
from keras_attn.text.graph.ragged_rows import packed
from keras_attn.text.graph.tables import CodePointTable, PairTable

# Not combining, though not a letter: the class of barriers and padding.
STARTER = 0
HANGUL, LEADS, VOWELS, TAILS = 0xAC00, 0x1100, 0x1161, 0x11A7


class UnicodeForm:
    """Decomposes characters, sorts combining marks by their class, and composes them again for NFC and NFKC.

    Args:
        name: `"NFC"`, `"NFD"`, `"NFKC"` or `"NFKD"`.
    """

    def __init__(self, name):
        decomposed = {"NFC": "NFD", "NFKC": "NFKD"}.get(name, name)
        self.decompose = CharacterMap(texts_of(json.dumps({"type": decomposed})))
        self.classes = CodePointTable(np.array([[*map(unicodedata.combining, map(chr, range(BARRIER)))]], np.int32).T)
        self.pairs = PairTable(_numbered(compositions())) if name in ("NFC", "NFKC") else None
        if self.pairs:
            self.letters, self.composed = _letters(), np.array([*compositions().values()], np.int32)

    def __call__(self, elements):
        elements = self._sorted(self.decompose(elements))
        return elements if self.pairs is None else self._composed(elements)

    def _class(self, elements):
        found = ops.squeeze(self.classes(ops.minimum(elements, BARRIER - 1)), -1)
        return ops.where(is_character(elements), found, STARTER)

    def _sorted(self, elements):
        columns = columns_of(elements)

        def wrong(classes):
            following = shifted(classes, -1, STARTER)
            return (classes > following) & (following > STARTER)

        def unfinished(elements, classes):
            return ops.any(wrong(classes))

        def swap(elements, classes):
            for parity in (0, 1):
                here = ops.cast(wrong(classes) & (ops.mod(columns, 2) == parity), "int32")
                behind = shifted(here, 1, 0)
                elements, classes = (
                    ops.where(here == 1, shifted(x, -1), ops.where(behind == 1, shifted(x, 1), x))
                    for x in (elements, classes)
                )
            return elements, classes

        return ops.while_loop(unfinished, swap, (elements, self._class(elements)))[0]

    def _composed(self, elements):
        """Composes each starter with the first later mark that fits and is not blocked, until none fits.

        `passed` are marks that were tried before one that fitted, and are not tried again.
        """
        columns = columns_of(elements)

        def candidates(elements, passed):
            classes = self._class(elements)
            starter = last_where((classes == STARTER) & (elements >= 0))
            # A starter itself is composed with the one before.
            starter = ops.where(classes == STARTER, shifted(starter, 1), starter)
            adjacent = starter == columns - 1
            free = adjacent | ((classes > STARTER) & (shifted(classes, 1, STARTER) < classes))
            base = take_columns(elements, ops.maximum(starter, 0))
            number = self._pair(base, elements)
            fits = (number >= 0) & free & (starter >= 0) & (passed == 0)
            return fits, starter, number

        def unfinished(elements, passed):
            return ops.any(candidates(elements, passed)[0])

        def compose(elements, passed):
            fits, starter, number = candidates(elements, passed)
            # The first candidate of each starter; a starter that is composed itself waits.
            before = shifted(last_where(fits), 1)
            first = fits & (before <= starter)
            waits = ops.cast(first, "int32")
            first = first & (take_columns(waits, ops.maximum(starter, 0)) == 0)
            marks = ops.cast(first, "int32")
            target = ops.where(first, starter, -1)
            following = next_where(first)
            composed = rows(self.composed, ops.maximum(take_columns(number, following), 0))
            is_base = (take_columns(target, following) == columns) & (take_columns(marks, following) == 1)
            inside = (take_columns(target, following) < columns) & (take_columns(marks, following) == 1) & ~first
            passed = ops.where(inside, 1, passed)
            elements = ops.where(is_base, composed, elements)
            keep = ~first & (elements >= 0)
            width = axis_size(elements, 1)
            passed = packed(passed, keep, width=width)
            return packed(elements, keep, width=width), ops.maximum(passed, 0)

        return ops.while_loop(unfinished, compose, (elements, ops.zeros_like(elements)))[0]

    def _pair(self, first, second):
        first, second = (
            ops.where(is_character(x), ops.squeeze(self.letters(ops.minimum(x, BARRIER - 1)), -1), -1)
            for x in (first, second)
        )
        return self.pairs(first, second)


@functools.cache
def compositions() -> dict[tuple[int, int], int]:
    """The composed character of each pair, according to the `tokenizers` library."""
    composed = texts_of(json.dumps({"type": "NFC"}))
    pairs = {}
    for point, parts in enumerate(map(unicodedata.decomposition, map(chr, range(BARRIER)))):
        parts = parts.split()
        # Characters that are excluded from composition do not survive it.
        if len(parts) == 2 and not parts[0].startswith("<") and composed[point] == chr(point):
            pairs[int(parts[0], 16), int(parts[1], 16)] = point
    for lead in range(19):
        for vowel in range(21):
            syllable = HANGUL + (lead * 21 + vowel) * 28
            pairs[LEADS + lead, VOWELS + vowel] = syllable
            for tail in range(1, 28):
                pairs[syllable, TAILS + tail] = syllable + tail
    return pairs


@functools.cache
def _numbers():
    """Small numbers of the characters that are part of a pair."""
    return {point: i for i, point in enumerate(sorted({point for pair in compositions() for point in pair}))}


def _letters():
    table = np.full((BARRIER, 1), -1, np.int32)
    for point, number in _numbers().items():
        table[point] = number
    return CodePointTable(table)


def _numbered(pairs):
    numbers = _numbers()
    return {(numbers[a], numbers[b]): i for i, (a, b) in enumerate(pairs)}
