"""A SentencePiece model whose ids are the bytes of a text, and their decoding to code points."""

import functools
import struct

from keras import ops

from keras_attn.extras import require
from keras_attn.ops.arrays import axis_size
from keras_attn.text.graph.ragged_rows import packed

# Bytes are mapped to characters from here on, because SentencePiece operators treat some characters specially.
FIRST = 0x100


@functools.cache
def sentencepiece_model() -> bytes:
    """The serialised `ModelProto`. The id of a byte is its value. NUL cannot be represented: it is unknown or lost.

    Its normaliser replaces each byte by a character. The rules are a double-array trie in Darts-clone's layout.
    """
    proto = require("sentencepiece.sentencepiece_model_pb2", "text").ModelProto()
    characters = [chr(FIRST + byte) for byte in range(256)]
    proto.pieces.add(piece="<unk>", score=0.0, type=proto.SentencePiece.UNKNOWN)
    for character in characters[1:]:
        proto.pieces.add(piece=character, score=0.0, type=proto.SentencePiece.NORMAL)
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    proto.trainer_spec.vocab_size = 256
    proto.trainer_spec.unk_id = 0
    proto.trainer_spec.bos_id = proto.trainer_spec.eos_id = proto.trainer_spec.pad_id = -1
    # A child is stored at its parent's offset XOR its label, a value at the child's offset.
    units = [0] * 768
    units[0] = 256 << 10
    for byte in range(1, 256):
        units[256 ^ byte] = byte | 1 << 8 | 768 << 10
        units[256 ^ byte ^ 768] = 1 << 31 | 3 * byte
    trie = struct.pack("<768I", *units)
    replacements = b"".join(character.encode() + b"\0" for character in characters)
    proto.normalizer_spec.name = "bytes"
    proto.normalizer_spec.precompiled_charsmap = struct.pack("<I", len(trie)) + trie + replacements
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = False
    return proto.SerializeToString(deterministic=True)


def code_points(symbols):
    """The code point that begins at each byte. Invalid UTF-8 gives U+FFFD, as in Python.

    Args:
        symbols: Int32 `(B, S)`, bytes, right-padded with -1.

    Returns:
        Int32 `(B, S)`, -1 at padding and at all other bytes of a code point or of an invalid sequence.
    """
    starts, is_valid, _ = _characters(symbols)
    second, third, fourth = (ops.maximum(shifted(symbols, -i), 128) - 128 for i in (1, 2, 3))
    one = symbols
    two = (symbols - 0xC0) * 64 + second
    three = ((symbols - 0xE0) * 64 + second) * 64 + third
    four = (((symbols - 0xF0) * 64 + second) * 64 + third) * 64 + fourth
    value = ops.where(symbols < 0xE0, two, ops.where(symbols < 0xF0, three, four))
    value = ops.where(is_valid, ops.where(symbols < 0x80, one, value), 0xFFFD)
    return ops.where(starts, value, -1)


def valid_utf8(symbols):
    """Replaces invalid UTF-8 by the bytes of U+FFFD, as Python does; int32 `(B, S)`, right-padded with -1."""
    starts, is_valid, is_kept = _characters(symbols)
    is_replaced = starts & ~is_valid
    first = ops.where(is_replaced, 0xEF, ops.where(is_kept, symbols, -1))
    others = (ops.where(is_replaced, byte, -1) for byte in (0xBF, 0xBD))
    found = ops.stack([first, *others], axis=-1)
    found = ops.reshape(found, (axis_size(symbols, 0), axis_size(symbols, 1) * 3))
    return packed(found, found >= 0)


def _characters(symbols):
    """`(starts, is_valid, is_kept)`, all bool `(B, S)`: the first byte of each character, incomplete sequence or stray
    byte; whether a complete character starts there; and which bytes belong to a complete character.
    """
    following = [shifted(symbols, -i) for i in (1, 2, 3)]
    # The range of the second byte excludes overlong forms, surrogates and values above U+10FFFF.
    least = ops.where(symbols == 0xE0, 0xA0, ops.where(symbols == 0xF0, 0x90, 0x80))
    most = ops.where(symbols == 0xED, 0x9F, ops.where(symbols == 0xF4, 0x8F, 0xBF))
    reaches = [(symbols >= 0xC2) & (symbols <= 0xF4) & (following[0] >= least) & (following[0] <= most)]
    for lead, byte in zip((0xE0, 0xF0), following[1:], strict=True):
        reaches.append(reaches[-1] & (symbols >= lead) & (byte >= 0x80) & (byte <= 0xBF))
    is_valid = (symbols >= 0) & (symbols < 0x80)
    is_valid |= (symbols < 0xE0) & reaches[0]
    is_valid |= (symbols < 0xF0) & reaches[1] | reaches[2]
    covered, is_kept = _flags(is_valid), _flags(is_valid)
    for i, reach in enumerate(reaches, 1):
        covered += shifted(_flags(reach), i, 0)
        is_kept += shifted(_flags(reach & is_valid), i, 0)
    starts = (symbols >= 0) & (covered == _flags(is_valid))
    return starts, is_valid, is_kept > 0


def _flags(values):
    return ops.cast(values, "int32")


def shifted(values, by, fill=-1):
    """Shifts rows by `by` columns to the right, or to the left if negative, and fills with `fill`."""
    width = [[0, 0], [by, 0] if by > 0 else [0, -by]]
    padded = ops.pad(values, width, constant_values=fill)
    return padded[:, :-by] if by > 0 else padded[:, -by:]
