"""Texts and lines of files, read in one way by everything that reads files."""

import gzip
import zlib
from pathlib import Path


def numbered_lines(path, keep_ends=False):
    """Numbers from 1 and lines, without their ends unless `keep_ends`.

    A line ends at a line feed, or at a carriage return and a line feed, and nowhere else: text may hold the other
    characters at which `str.splitlines` cuts, such as U+2028. A byte-order mark at the beginning is no part of the
    first line, `.gz` is decompressed, and bytes that are no UTF-8 become surrogates.

    Raises:
        ValueError: a compressed file is damaged.
    """
    path, number = Path(path), 0
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, line if keep_ends else line.removesuffix("\n").removesuffix("\r")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise damaged(path, f"line {number}", error) from error


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
