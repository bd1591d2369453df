"""The normalisers of a `tokenizer.json` as functions of rows of elements."""

import json

import numpy as np
from keras import ops

from keras_attn.ops.arrays import rows, take_columns
from keras_attn.text.graph.character_maps import CharacterMap, texts_of
from keras_attn.text.graph.elements import (
    BARRIER,
    begins,
    expanded,
    inserted,
    is_character,
    last_where,
    next_where,
    with_end,
)
from keras_attn.text.graph.matcher import Matcher
from keras_attn.text.graph.precompiled import Precompiled
from keras_attn.text.graph.ragged_rows import packed
from keras_attn.text.graph.regular_expressions import UnsupportedExpressionError, literal, parsed
from keras_attn.text.graph.tables import CodePointTable
from keras_attn.text.graph.unicode_forms import UnicodeForm
from keras_attn.text.pretrained.components import flat

BY_CHARACTER = ("BertNormalizer", "Lowercase", "Nmt", "StripAccents")
FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def normalizers_of(content):
    """The normalisers of a checked `tokenizer.json`, in order."""
    return [_normalizer(part) for part in flat(content, "normalizer")]


def matcher_of(pattern):
    """The `Matcher` of a `{"String": ...}` or `{"Regex": ...}`."""
    return Matcher(parsed(pattern["Regex"]) if "Regex" in pattern else literal(pattern["String"]))


def _normalizer(part):
    kind = part["type"]
    if kind in BY_CHARACTER:
        return CharacterMap(texts_of(json.dumps(part)))
    if kind in FORMS:
        return UnicodeForm(kind)
    if kind == "Precompiled":
        return Precompiled(part["precompiled_charsmap"]) if part["precompiled_charsmap"] else lambda elements: elements
    if kind == "Replace":
        return Replace(matcher_of(part["pattern"]), part["content"])
    if kind == "Prepend":
        return Prepend(part["prepend"])
    if kind == "Strip":
        return Strip(part["strip_left"], part["strip_right"])
    raise UnsupportedExpressionError(f"The normaliser {kind!r} has no form in graphs.")


class Replace:
    """Replaces the matches of an expression by a text."""

    def __init__(self, matcher, text):
        self.matcher, self.text = matcher, np.array([ord(c) for c in text] or [0], np.int32)
        self.length = len(text)

    def __call__(self, elements):
        elements = with_end(elements)
        starts, others = self.matcher(elements)
        matched = is_character(elements) & ~others
        marks = ops.cast(starts, "int32")
        lengths = ops.where(matched, marks * self.length, ops.cast(elements >= 0, "int32"))
        sources, places = expanded(lengths)
        safe = ops.maximum(sources, 0)
        new = rows(self.text, ops.minimum(places, len(self.text) - 1))
        found = ops.where(take_columns(marks, safe) == 1, new, take_columns(elements, safe))
        return ops.where(sources >= 0, found, -1)


class Prepend:
    """Puts a text before each text that is not empty."""

    def __init__(self, text):
        self.characters = [ord(character) for character in text]

    def __call__(self, elements):
        first = begins(elements)
        for character in reversed(self.characters):
            elements = inserted(elements, first, character)
            first = begins(elements)
        return elements


class Strip:
    """Removes whitespace at the ends of each text."""

    def __init__(self, left, right):
        self.left, self.right = left, right
        table = [[chr(point).isspace() and not 0x1C <= point < 0x20] for point in range(BARRIER)]
        self.spaces = CodePointTable(np.array(table, np.int32))

    def __call__(self, elements):
        elements = with_end(elements)
        real = is_character(elements)
        space = (ops.squeeze(self.spaces(ops.minimum(elements, BARRIER - 1)), -1) == 1) & real
        gone = ops.zeros_like(elements)
        if self.left:
            # The last column before that is no space, or the one before the text.
            edge = ops.maximum(last_where(~space), 0)
            at_start = (last_where(~space) < 0) | ~_flag(take_columns(ops.cast(real, "int32"), edge))
            gone = ops.where(space & at_start, 1, gone)
        if self.right:
            at_end = ~_flag(take_columns(ops.cast(real, "int32"), next_where(~space)))
            gone = ops.where(space & at_end, 1, gone)
        return packed(elements, (elements >= 0) & (gone == 0))


def _flag(values):
    return values == 1
