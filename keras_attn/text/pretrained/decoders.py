"""The bytes that each id decodes to, according to the decoder of a `tokenizer.json`."""

from __future__ import annotations

import re
from typing import Any

from keras_attn.text.pretrained.byte_alphabet import bytes_of_piece
from keras_attn.text.pretrained.components import flat, need

BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
# What `cleanup` of a WordPiece decoder does to each token, in this order.
CLEANUP = {" .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'", " n't": "n't", " 'm": "'m", " do not": " don't"}
CLEANUP |= {" 's": "'s", " 've": "'ve", " 're": "'re"}


def readings(content: dict[str, Any], pieces: list[str], hidden: set[int]) -> tuple[list[bytes], list[bytes]]:
    """The UTF-8 bytes of each id, in general and as the first of a text; `b""` for the ids of `hidden`."""
    parts = flat(content, "decoder")
    added = {token["id"] for token in content["added_tokens"]}
    tables = []
    for is_first in (False, True):
        table = []
        for i, piece in enumerate(pieces):
            reading = b"" if i in hidden else _reading(piece, parts, is_first, i in added)
            table.append(reading)
        tables.append(table)
    return tables[0], tables[1]


def check(content: dict[str, Any]) -> None:
    """Raises a ValueError for a decoder that works on more than single tokens."""
    for part in flat(content, "decoder"):
        if part["type"] == "Replace":
            need("String" in part["pattern"], "a String", part["pattern"], "decoder.pattern")


def _reading(piece, parts, is_first, is_added):
    if not parts:
        # Without a decoder, the pieces are joined by spaces.
        return piece.encode() if is_first else b" " + piece.encode()
    text, fused = piece, False
    for part in parts:
        kind = part["type"]
        if isinstance(text, bytes):
            continue
        if kind == "ByteLevel":
            # Added tokens are spelled as they are.
            text = text.encode() if is_added else _byte_level(text)
        elif kind == "ByteFallback":
            byte = BYTE.fullmatch(text)
            text = bytes([int(byte[1], 16)]) if byte else text
        elif kind == "Fuse":
            fused = True
        elif kind == "Strip":
            text = _stripped(text, part, left=is_first or not fused, right=not fused)
        elif kind == "Replace":
            text = text.replace(part["pattern"]["String"], part["content"])
        elif kind == "Metaspace":
            gone = is_first and part["prepend_scheme"] != "never"
            text = text.replace(part["replacement"], "" if gone else " ")
        elif kind == "BPEDecoder":
            text = text.replace(part.get("suffix", "</w>"), " ")
        elif kind == "WordPiece":
            text = _word_piece(text, part, is_first)
    return text if isinstance(text, bytes) else text.encode()


def _byte_level(piece):
    """The bytes of a piece. A suffix that marks the end of a word, as in CLIP, is a space."""
    suffix = "</w>"
    if piece.endswith(suffix) and piece != suffix:
        return bytes_of_piece(piece.removesuffix(suffix)) + b" "
    return bytes_of_piece(piece)


def _word_piece(text, part, is_first):
    inner = part.get("prefix", "##")
    if not is_first:
        text = text.removeprefix(inner) if text.startswith(inner) else " " + text
    if part.get("cleanup", True):
        for old, new in CLEANUP.items():
            text = text.replace(old, new)
    return text


def _stripped(text, part, left, right):
    character = part.get("content", " ")
    for _ in range(min(part.get("start", 0), len(text)) if left else 0):
        text = text.removeprefix(character)
    for _ in range(min(part.get("stop", 0), len(text)) if right else 0):
        text = text.removesuffix(character)
    return text
