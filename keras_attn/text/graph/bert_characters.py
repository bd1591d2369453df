"""BERT's normalisation of each character, computed with the `tokenizers` library."""

import functools
from typing import NamedTuple

import numpy as np

from keras_attn.extras import require

POINTS, BLOCK = 0x110000, 0x800


class BertCharacters(NamedTuple):
    """BERT's normalisation of all code points.

    Attributes:
        text: The normalised code points, concatenated.
        lengths: Integer array `(0x110000,)`, the length of each in `text`.
        alone: The characters in `text` that are words by themselves.
        spaces: The characters in `text` that separate words.
    """

    text: str
    lengths: np.ndarray
    alone: str
    spaces: str


def normalizer(lowercase, strip_accents, split_cjk):
    """The normaliser of the `tokenizers` library."""
    return require("tokenizers", "text").normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_cjk, strip_accents=strip_accents, lowercase=lowercase
    )


def pre_tokenizer():
    """The pre-tokenizer of the `tokenizers` library."""
    return require("tokenizers", "text").pre_tokenizers.BertPreTokenizer()


@functools.cache
def bert_characters(lowercase, strip_accents, split_cjk) -> BertCharacters:
    """Normalises each code point.

    Characters can be normalised independently: only the order of combining marks depends on their neighbours, and the
    few marks that are kept do not occur next to each other.
    """
    normalize, found = normalizer(lowercase, strip_accents, split_cjk).normalize_str, []
    # `mark` is not changed by normalisation, so it separates the results.
    mark = "\ua66e"
    for start in range(0, POINTS, BLOCK):
        block = ["" if start == 0xD800 or point == ord(mark) else chr(point) for point in range(start, start + BLOCK)]
        found += normalize(mark + mark.join(block) + mark).split(mark)[1:-1]
    found[ord(mark)] = mark
    characters = "".join(sorted(set("".join(found))))
    split = pre_tokenizer().pre_tokenize_str
    # Short texts, because the time grows faster than the length.
    blocks = ["a" + "a".join(characters[i : i + BLOCK]) + "a" for i in range(0, len(characters), BLOCK)]
    pieces = [piece for block in blocks for piece, _ in split(block)]
    alone = "".join(sorted({piece for piece in pieces if len(piece) == 1 and piece != "a"}))
    spaces = "".join(sorted(set(characters) - set("".join(pieces))))
    return BertCharacters("".join(found), np.fromiter(map(len, found), np.int32, len(found)), alone, spaces)
