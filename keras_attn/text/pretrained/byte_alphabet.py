"""GPT-2's spelling of bytes as characters."""

import functools


@functools.cache
def bytes_of_characters() -> dict[str, int]:
    """GPT-2's characters for bytes: printable bytes map to themselves, the others to U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def bytes_of_piece(piece: str) -> bytes:
    """The bytes of a piece. A piece outside of GPT-2's byte alphabet is its own text."""
    known = bytes_of_characters()
    if all(character in known for character in piece):
        return bytes(known[character] for character in piece)
    return piece.encode()
