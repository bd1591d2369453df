"""What characters are to BERT, read off the `tokenizers` library."""

import functools
from typing import NamedTuple

import numpy as np

from keras_attn.extras import require

POINTS, BLOCK = 0x110000, 0x800


class BertCharacters(NamedTuple):
    """`text`: what all code points become, one after another; `lengths`: how much of it each of them does, int array
    `(0x110000,)`; `alone`: its characters that are words of their own; `spaces`: those that part words.
    """

    text: str
    lengths: np.ndarray
    alone: str
    spaces: str


def normalizer(lowercase, strip_accents, split_cjk):
    """The library's own."""
    return require("tokenizers", "text").normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_cjk, strip_accents=strip_accents, lowercase=lowercase
    )


def pre_tokenizer():
    """The library's own."""
    return require("tokenizers", "text").pre_tokenizers.BertPreTokenizer()


@functools.cache
def bert_characters(lowercase, strip_accents, split_cjk) -> BertCharacters:
    """What normalisation makes of each code point.

    Alone, only the order of combining marks depends on their neighbours: that of those few that are kept where others
    go, which no text has side by side.
    """
    normalize, found = normalizer(lowercase, strip_accents, split_cjk).normalize_str, []
    # Between two letters that stay as they are, all that is left of a character is its own.
    mark = "\ua66e"
    for start in range(0, POINTS, BLOCK):
        block = ["" if start == 0xD800 or point == ord(mark) else chr(point) for point in range(start, start + BLOCK)]
        found += normalize(mark + mark.join(block) + mark).split(mark)[1:-1]
    found[ord(mark)] = mark
    characters = "".join(sorted(set("".join(found))))
    pieces = [piece for piece, _ in pre_tokenizer().pre_tokenize_str("a" + "a".join(characters) + "a")]
    alone = "".join(sorted({piece for piece in pieces if len(piece) == 1 and piece != "a"}))
    spaces = "".join(sorted(set(characters) - set("".join(pieces))))
    return BertCharacters("".join(found), np.fromiter(map(len, found), np.int32, len(found)), alone, spaces)
