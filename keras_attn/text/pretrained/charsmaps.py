"""The rules of characters of SentencePiece models: a double-array trie of texts, and what replaces them."""

from __future__ import annotations

import base64
import functools
import struct

import numpy as np

# A label, and the bit that marks a value.
LABEL, VALUE, LEAF = 0x800000FF, 1 << 31, 1 << 8
LABELS = np.arange(1, 256, dtype=np.int64)
LONGEST, MOST_NODES = 256, 2**20


@functools.lru_cache(maxsize=4)
def rules_of(charsmap: str) -> dict[str, str]:
    """The texts that are replaced, and what replaces them.

    Args:
        charsmap: The `precompiled_charsmap` of a `tokenizer.json`, base64.

    Raises:
        ValueError: If it is damaged, such that a reader could leave its memory.
    """
    try:
        return _rules(base64.b64decode(charsmap, validate=True))
    except (ValueError, IndexError, struct.error) as error:
        rule = "`precompiled_charsmap` of the tokenizer must be a double-array trie and texts"
        raise ValueError(f"{rule}. Received: {error}") from error


def _rules(content):
    if not content:
        return {}
    [size] = struct.unpack_from("<I", content)
    if size % 4 or not 0 < size <= len(content) - 4:
        raise ValueError(f"a trie of {size} bytes in {len(content)}")
    units = np.frombuffer(content[4 : 4 + size], np.uint32).astype(np.int64)
    texts = content[4 + size :]
    texts.decode()
    ends = {}
    found, prefixes, bases, count = {}, [b""], _offsets(units[:1]), 0
    while len(prefixes):
        count += len(prefixes)
        # All nodes whose texts have the same length, and all their children. Readers look for any label.
        if count > MOST_NODES or len(prefixes[0]) > LONGEST or np.any(bases | 0xFF >= len(units)):
            raise ValueError("nodes outside of the trie, or in a circle")
        places = bases[:, None] ^ LABELS
        parents, labels = np.nonzero((units[places] & LABEL) == LABELS)
        places = places[parents, labels]
        below = places ^ _offsets(units[places])
        prefixes = [prefixes[i] + bytes([label + 1]) for i, label in zip(parents, labels, strict=True)]
        for i in np.flatnonzero(units[places] & LEAF):
            value = int(units[below[i]] & VALUE - 1)
            if not 0 <= value < len(texts):
                raise ValueError(f"a text at {value} of {len(texts)} bytes")
            end = ends.setdefault(value, texts.find(b"\0", value))
            found[prefixes[i].decode()] = texts[value : end if end >= 0 else None].decode()
        bases = below
    return found


def _offsets(units):
    return (units >> 10) << ((units & 1 << 9) >> 6)
