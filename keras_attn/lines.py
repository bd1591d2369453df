"""Reading of text files, shared by everything that reads files."""

import codecs
import gzip
import io
import zlib
from pathlib import Path

# Long documents have some million characters.
LONGEST_LINE = 2**26
# Text compresses to a tenth, zeros to a thousandth.
_MOST_EXPANSION, _MOST_EXPANDED, _LINES_A_CHECK = 200, 2**28, 4096
_SAMPLE = 4096
# Magic numbers of gzip, bzip2, xz, zip and Zstandard.
_COMPRESSED = (b"\x1f\x8b\x08", b"BZh91AY&SY", b"\xfd7zXZ\0", b"PK\x03\x04", b"\x28\xb5\x2f\xfd")


def numbered_lines(path, keep_ends=False):
    """Yields lines and their numbers from 1, without line ends unless `keep_ends`.

    A line ends at LF or CRLF only: text may contain the other characters at which `str.splitlines` splits, such as
    U+2028. A leading byte-order mark is removed, `.gz` files are decompressed, and invalid UTF-8 becomes surrogates.

    Raises:
        ValueError: If a compressed file is damaged or expands too much, the file is in UTF-16 or UTF-32, or a line is
            too long.
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
    """Opens a gzip file for reading. Unlike `gzip.open`, it rejects empty files."""
    if not path.stat().st_size:
        raise damaged(path, "byte 0", "the header is missing")
    return gzip.open(path, "rb")


def check_encoding(path, start):
    """Raises a ValueError if a file seems to be in UTF-16 or UTF-32, or compressed.

    Args:
        path: Path of the file.
        start: The first bytes of the file.
    """
    if start.startswith(_COMPRESSED):
        raise ValueError(
            f"`files` must be text, or compressed by gzip and named '.gz'; decompress others. Received: {path}, "
            "which is compressed"
        )
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    # In UTF-16, every second byte of Latin text is 0. UTF-8 has a byte 0 only for the character NUL.
    if marked or (len(start) > 1 and 4 * start.count(0) >= len(start)):
        raise ValueError(f"`files` must be text in UTF-8. Received: {path}, which is UTF-16, UTF-32 or not text")


def check_expansion(path, size):
    """Raises a ValueError if a compressed file expands too much to be text."""
    if size > _MOST_EXPANDED and size > _MOST_EXPANSION * path.stat().st_size:
        raise ValueError(
            f"`files` must not expand to more than {_MOST_EXPANSION} times their size: decompress them if it is "
            f"intended. Received: {path}, which expands to more than {size:,} bytes"
        )


def read_lines(path):
    """The lines of a UTF-8 file, split as by `numbered_lines`.

    Raises:
        ValueError: If the file is not UTF-8, or damaged.
    """
    lines = []
    for number, line in numbered_lines(path):
        if not is_unicode(line):
            raise ValueError(f"{path} must be text in UTF-8. Received: other bytes in line {number}")
        lines.append(line)
    return lines


def read_text(path):
    """The lines of a UTF-8 file as one text, joined by line feeds."""
    return "\n".join(read_lines(path))


def is_unicode(text):
    """Whether a text contains no surrogates, which represent invalid UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def damaged(path, place, error):
    """A ValueError that tells where a file is damaged."""
    return ValueError(f"`files` must be whole. Received: {path}, damaged after {place}: {error}")
