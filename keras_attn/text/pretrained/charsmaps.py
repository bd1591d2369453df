"""The rules of characters of SentencePiece models: a double-array trie of texts, and what replaces them."""

from __future__ import annotations

import base64
import struct

import numpy as np

# A label, and the bits that mark a value and that a node has one.
LABEL, VALUE, LEAF = 0x800000FF, 1 << 31, 1 << 8
LABELS = np.arange(1, 256, dtype=np.int64)


def check(charsmap: str) -> None:
    """Raises a ValueError if rules are damaged, such that a reader could leave its memory.

    Args:
        charsmap: The `precompiled_charsmap` of a `tokenizer.json`, base64.
    """
    try:
        units, texts = _parts(charsmap)
        seen, bases = np.zeros(len(units), bool), _offsets(units[:1])
        while len(bases):
            # Readers look for any label of a node, and several nodes share their children.
            if np.any(bases | 0xFF >= len(units)):
                raise ValueError("nodes outside of the trie")
            bases = np.unique(bases[~seen[bases]])
            seen[bases] = True
            _, _, values, bases = _children(units, bases)
            if np.any(values >= len(texts)) or any(
                texts[value] & 0xC0 == 0x80 for value in np.unique(values[values >= 0])
            ):
                raise ValueError("a text that is not there")
    except (ValueError, struct.error) as error:
        rule = "`precompiled_charsmap` of the tokenizer must be a double-array trie and texts"
        raise ValueError(f"{rule}. Received: {error}") from error


def short_rules(charsmap: str, longest: int) -> dict[str, str]:
    """The texts of at most `longest` bytes that are replaced, and what replaces them. The rules must be checked."""
    units, texts = _parts(charsmap)
    found, prefixes, bases = {}, [b""], _offsets(units[:1])
    for _ in range(longest):
        parents, places, values, below = _children(units, bases)
        labels = places ^ bases[parents]
        prefixes = [prefixes[i] + bytes([label]) for i, label in zip(parents, labels, strict=True)]
        for i in np.flatnonzero(values >= 0):
            end = texts.find(b"\0", values[i])
            found[prefixes[i]] = texts[values[i] : end if end >= 0 else None].decode()
        bases = below
    return {text.decode(): new for text, new in found.items() if _is_text(text)}


def _is_text(content):
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parts(charsmap):
    content = base64.b64decode(charsmap, validate=True)
    [size] = struct.unpack_from("<I", content)
    if size % 4 or not 0 < size <= len(content) - 4:
        raise ValueError(f"a trie of {size} bytes in {len(content)}")
    content[4 + size :].decode()
    return np.frombuffer(content[4 : 4 + size], np.uint32).astype(np.int64), content[4 + size :]


def _children(units, bases):
    """The children of nodes: whose they are, their places, values (-1 for none), and the bases of their children."""
    places = bases[:, None] ^ LABELS
    parents, labels = np.nonzero((units[places] & LABEL) == LABELS)
    places = places[parents, labels]
    below = places ^ _offsets(units[places])
    has_value = (units[places] & LEAF) > 0
    if np.any(below[has_value] >= len(units)):
        raise ValueError("values outside of the trie")
    values = np.where(has_value, units[np.where(has_value, below, 0)] & VALUE - 1, -1)
    return parents, places, values, below


def _offsets(units):
    return (units >> 10) << ((units & 1 << 9) >> 6)
