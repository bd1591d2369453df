"""Texts and lines of files, read in one way by everything that reads files."""

import codecs
import gzip
import io
import zlib
from pathlib import Path

# A document has some million characters.
LONGEST_LINE = 2**26
# Text is compressed to a tenth, zeros to a thousandth.
_MOST_EXPANSION, _MOST_EXPANDED, _LINES_A_CHECK = 200, 2**28, 4096
_SAMPLE = 4096
# How files begin that gzip, bzip2, xz, zip and Zstandard have made.
_COMPRESSED = (b"\x1f\x8b\x08", b"BZh91AY&SY", b"\xfd7zXZ\0", b"PK\x03\x04", b"\x28\xb5\x2f\xfd")


def numbered_lines(path, keep_ends=False):
    """Numbers from 1 and lines, without their ends unless `keep_ends`.

    A line ends at a line feed, or at a carriage return and a line feed, and nowhere else: text may hold the other
    characters at which `str.splitlines` cuts, such as U+2028. A byte-order mark at the beginning is no part of the
    first line, `.gz` is decompressed, and bytes that are no UTF-8 become surrogates.

    Raises:
        ValueError: a compressed file is damaged, or grows out of all proportion; the file is in UTF-16 or UTF-32; or a
            line is longer than any text.
    """
    path, number = Path(path), 0
    is_compressed = path.suffix.lower() == ".gz"
    with open_gzip(path) if is_compressed else open(path, "rb") as content:
        try:
            check_encoding(path, content.peek(_SAMPLE)[:_SAMPLE])
            file = io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), 1):
                if len(line) > LONGEST_LINE:
                    raise ValueError(
                        f"`files` must have lines of at most {LONGEST_LINE:,} characters. "
                        f"Received: {path}, whose line {number} is longer"
                    )
                if is_compressed and (not number % _LINES_A_CHECK or len(line) > _LINES_A_CHECK):
                    check_expansion(path, content.tell())
                yield number, line if keep_ends else line.removesuffix("\n").removesuffix("\r")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise damaged(path, f"line {number}", error) from error


def open_gzip(path):
    """A file that gzip has made, for reading. Python's own function takes one that has lost all bytes for whole."""
    if not path.stat().st_size:
        raise damaged(path, "byte 0", "not even a header is there")
    return gzip.open(path, "rb")


def check_encoding(path, start):
    """Raises a ValueError where a file begins as one in UTF-16 or UTF-32 does, or as one that is compressed.

    Args:
        path: that of the file.
        start: its first bytes.
    """
    if start.startswith(_COMPRESSED):
        raise ValueError(
            f"`files` must be text, or be compressed by gzip and called '.gz'; decompress others. Received: {path}, "
            "which is compressed"
        )
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    # In UTF-16 every second byte of Latin text is 0; UTF-8 has no byte 0 but for the character NUL.
    if marked or (len(start) > 1 and 4 * start.count(0) >= len(start)):
        raise ValueError(f"`files` must be text in UTF-8. Received: {path}, which is UTF-16, UTF-32 or no text")


def check_expansion(path, size):
    """Raises a ValueError where a compressed file gives so many bytes that it is no text that somebody has written."""
    if size > _MOST_EXPANDED and size > _MOST_EXPANSION * path.stat().st_size:
        raise ValueError(
            f"`files` must not expand to more than {_MOST_EXPANSION} times their size: decompress it if that is meant. "
            f"Received: {path}, which gives more than {size:,} bytes"
        )


def read_lines(path):
    """The lines of a file that must be UTF-8, as `numbered_lines` cuts them.

    Raises:
        ValueError: the file is no UTF-8, or damaged.
    """
    lines = []
    for number, line in numbered_lines(path):
        if not is_unicode(line):
            raise ValueError(f"{path} must be text in UTF-8. Received: other bytes in line {number}")
        lines.append(line)
    return lines


def read_text(path):
    """The lines of a file in UTF-8 as one text, with a line feed between them."""
    return "\n".join(read_lines(path))


def is_unicode(text):
    """Whether a text holds no surrogates, which stand for bytes that are no UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def damaged(path, place, error):
    """The ValueError that says where a file is damaged."""
    return ValueError(f"`files` must be whole. Received: {path}, damaged behind {place}: {error}")
