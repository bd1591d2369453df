"""The part of regular expressions that splits texts into words, parsed for `matcher.py`."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from keras_attn.extras import require

POINTS, BLOCK = 0x110000, 0x800
MOST = 2**30


class UnsupportedExpressionError(ValueError):
    """An expression that has no form in graphs."""


class Characters(NamedTuple):
    """One of a set of characters, from `least` to `most` times, as often as possible. `text` is its expression."""

    text: str
    least: int = 1
    most: int = 1
    is_possessive: bool = False


class Look(NamedTuple):
    """Whether one of a set of characters follows, or does not."""

    text: str
    is_negative: bool


class Edge(NamedTuple):
    """The start or the end of a text."""

    is_start: bool


class Either(NamedTuple):
    """The first of several sequences of parts that matches."""

    options: tuple[tuple, ...]


@functools.lru_cache(maxsize=64)
def parsed(pattern: str) -> Either:
    """Parses an expression. All of it is greedy, as in Oniguruma.

    Raises:
        UnsupportedExpressionError: If a part of it has no form in graphs, or it matches an empty text.
    """
    parser = _Parser(pattern)
    found = parser.either("")
    if parser.place < len(pattern):
        raise parser.unsupported()
    if any(_least(option) == 0 for option in found.options):
        raise UnsupportedExpressionError(f"The expression {pattern!r} matches an empty text.")
    return found


def literal(text: str) -> Either:
    """The expression of a text."""
    return Either((tuple(Characters(_escaped(character)) for character in text),))


@functools.lru_cache(maxsize=256)
def members(text: str) -> np.ndarray:
    """Which code points an expression of one character matches, according to the `tokenizers` library; bool."""
    library = require("tokenizers", "text")
    # Much faster than to split a text.
    remove = library.normalizers.Replace(library.Regex(f"(?:{text})+"), "").normalize_str
    found = np.ones(POINTS, bool)
    found[0xD800:0xE000] = False
    for block in _blocks():
        found[np.frombuffer(remove(block).encode("utf-32-le"), np.uint32)] = False
    return found


@functools.cache
def _blocks():
    """All code points but surrogates."""
    return ["".join(map(chr, range(i, i + BLOCK))) for i in range(0, POINTS, BLOCK) if i != 0xD800]


def sets(node) -> list[str]:
    """The expressions of all sets of characters in a tree."""
    if isinstance(node, Either):
        return [text for option in node.options for part in option for text in sets(part)]
    return [] if isinstance(node, Edge) else [node.text]


def _least(parts):
    """The least number of characters that a sequence matches."""
    total = 0
    for part in parts:
        if isinstance(part, Characters):
            total += part.least
        elif isinstance(part, Either):
            total += min(map(_least, part.options))
    return total


def _escaped(character):
    return f"\\x{{{ord(character):X}}}"


class _Parser:
    def __init__(self, pattern):
        self.pattern, self.place = pattern, 0

    def unsupported(self):
        rest = self.pattern[self.place : self.place + 20]
        return UnsupportedExpressionError(f"The expression {self.pattern!r} has no form in graphs from {rest!r} on.")

    def either(self, flags):
        options = [self.sequence(flags)]
        while self.take("|"):
            options.append(self.sequence(flags))
        return Either(tuple(options))

    def sequence(self, flags):
        parts = []
        while self.place < len(self.pattern) and self.pattern[self.place] not in "|)":
            parts.append(self.quantified(self.atom(flags)))
        return tuple(parts)

    def take(self, text):
        if self.pattern.startswith(text, self.place):
            self.place += len(text)
            return True
        return False

    def atom(self, flags):
        for opening, make in (("(?!", True), ("(?=", False)):
            if self.take(opening):
                return self.look(flags, make)
        for opening, inner in (("(?:", flags), ("(?i:", "i"), ("(", flags)):
            if self.take(opening):
                if self.pattern.startswith("?", self.place):
                    raise self.unsupported()
                found = self.either(inner)
                if not self.take(")"):
                    raise self.unsupported()
                return found
        for name, is_start in ((r"\A", True), (r"\z", False)):
            if self.take(name):
                return Edge(is_start)
        text = self.set_of_characters()
        return Characters(f"(?i:{text})" if flags else text)

    def look(self, flags, is_negative):
        found = self.either(flags)
        single = len(found.options) == 1 and len(found.options[0]) == 1
        part = found.options[0][0] if single else None
        if not self.take(")") or not isinstance(part, Characters) or (part.least, part.most) != (1, 1):
            raise self.unsupported()
        return Look(part.text, is_negative)

    def set_of_characters(self):
        start = self.place
        character = self.pattern[start]
        if character == "[":
            self.brackets()
        elif character == "\\":
            self.escape()
        elif character in "^$*+?{})" or character == ".":
            raise self.unsupported()
        else:
            self.place += 1
            return _escaped(character)
        return self.pattern[start : self.place]

    def brackets(self):
        depth = 0
        while self.place < len(self.pattern):
            character = self.pattern[self.place]
            if character == "\\":
                self.place += 1
            depth += (character == "[") - (character == "]")
            self.place += 1
            if depth == 0:
                return
        raise self.unsupported()

    def escape(self):
        name = self.pattern[self.place + 1 : self.place + 2]
        if name in ("p", "P"):
            end = self.pattern.find("}", self.place)
            if self.pattern[self.place + 2 : self.place + 3] != "{" or end < 0:
                raise self.unsupported()
            self.place = end + 1
        elif name and (name in "sSdDwWrntfv" or not name.isalnum()):
            self.place += 2
        else:
            raise self.unsupported()

    def quantified(self, part):
        least, most = self.quantity()
        if (least, most) == (1, 1):
            return part
        is_possessive = self.take("+")
        if self.pattern.startswith("?", self.place) or isinstance(part, (Look, Edge)):
            raise self.unsupported()
        if isinstance(part, Characters):
            return part._replace(least=least, most=most, is_possessive=is_possessive)
        if (least, most) == (0, 1) and not is_possessive:
            return Either((*part.options, ()))
        one = part.options[0] if len(part.options) == 1 else ()
        if len(one) == 1 and isinstance(one[0], Characters) and (one[0].least, one[0].most) == (1, 1):
            return one[0]._replace(least=least, most=most, is_possessive=is_possessive)
        raise self.unsupported()

    def quantity(self):
        for sign, counts in (("?", (0, 1)), ("*", (0, MOST)), ("+", (1, MOST))):
            if self.take(sign):
                return counts
        if not self.take("{"):
            return 1, 1
        end = self.pattern.find("}", self.place)
        parts = self.pattern[self.place : end].split(",") if end > 0 else []
        if not 1 <= len(parts) <= 2 or not parts[0].isdecimal() or not (parts[-1].isdecimal() or parts[-1] == ""):
            raise self.unsupported()
        self.place = end + 1
        return int(parts[0]), min(int(parts[-1] or MOST), MOST)
