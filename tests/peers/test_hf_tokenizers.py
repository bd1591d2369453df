"""The same ids as the libraries that others train and ship vocabularies with, on 10,000 lines."""

import gzip
import os
import random
from pathlib import Path

import pytest

from keras_attn.text import BytePairTokenizer, SentencePieceTokenizer, WordPieceTokenizer

transformers = pytest.importorskip("transformers", reason="needs transformers: make peers")
sentencepiece = pytest.importorskip("sentencepiece", reason="it is the reference")

SCRIPTS = [(0x20, 0x7F), (0xA1, 0x250), (0x300, 0x370), (0x370, 0x400), (0x400, 0x460), (0x5D0, 0x5EB), (0x620, 0x660)]
SCRIPTS += [(0x900, 0x970), (0xE01, 0xE3B), (0x3041, 0x30FF), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x1F300, 0x1F650)]
ODD = ["\t", "\x01", "\x7f", "\u200d", "\u200b", "\u00a0", "\u3000", "\ufeff", "\ufe0f", "\ufffd", "\u2028", "\u00ad"]


@pytest.fixture(scope="module")
def lines():
    """Multi30k in English and German, and lines of a dozen scripts with emoji and control characters strewn in."""
    folder = Path(os.environ.get("KERAS_ATTN_DATA", "")) / "multi30k"
    if not (folder / "train.en.gz").is_file():
        pytest.skip("needs Multi30k under KERAS_ATTN_DATA")
    found = []
    for language in ("en", "de"):
        with gzip.open(folder / f"train.{language}.gz", "rt", encoding="utf-8") as file:
            found += [line.rstrip("\n") for line in file][:3500]
    generator = random.Random(5)
    while len(found) < 10_000:
        low, high = generator.choice(SCRIPTS)
        words = [
            "".join(chr(generator.randrange(low, high)) for _ in range(generator.randrange(1, 12)))
            + (generator.choice(ODD) if generator.random() < 0.2 else "")
            for _ in range(generator.randrange(9))
        ]
        found.append(" ".join(words))
    return [*found[:-2], "a" * 100 + " " + "a" * 101, ""]


@pytest.mark.parametrize("settings", [{}, {"lowercase": False}, {"lowercase": False, "strip_accents": True}])
def test_word_piece(lines, settings, tmp_path):
    ours = WordPieceTokenizer.train(lines[::2], 1500, **settings)
    (tmp_path / "vocab.txt").write_text("\n".join(ours.vocabulary) + "\n", encoding="utf-8")
    assert WordPieceTokenizer.from_file(tmp_path / "vocab.txt", **settings) == ours
    theirs = transformers.BertTokenizer(
        vocab={piece: i for i, piece in enumerate(ours.vocabulary)},
        do_lower_case=ours.lowercase,
        strip_accents=ours.strip_accents,
    )
    expected = theirs(lines)["input_ids"]
    assert [[*ours.prefix, *ids, *ours.suffix] for ids in ours.tokenize(lines)] == expected
    assert any(ours.unknown_id in row for row in expected)
    ids, segments = ours.encode_pairs(lines[:50], lines[50:100], length=17)
    pairs = theirs(lines[:50], lines[50:100], truncation="longest_first", max_length=17, padding="max_length")
    assert ids.tolist() == pairs["input_ids"]
    assert segments.tolist() == pairs["token_type_ids"]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("trainer", [{}, {"byte_fallback": True, "normalization_rule_name": "identity"}])
def test_sentence_piece(lines, kind, trainer, tmp_path):
    ours = SentencePieceTokenizer.train(lines[::4], 2700, kind, trainer={"character_coverage": 0.995, **trainer})
    (tmp_path / "spiece.model").write_bytes(ours.model)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    expected = theirs.encode(lines)
    assert ours.tokenize(lines) == expected
    assert SentencePieceTokenizer.from_file(tmp_path / "spiece.model") == ours
    known = [row for row in expected if ours.unknown_id not in row]
    assert [ours.decode([row])[0] for row in known if row] == [theirs.decode(row) for row in known if row]


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}])
def test_byte_pair(lines, settings, tmp_path):
    ours = BytePairTokenizer.train(lines[::2], 1500, **settings)
    vocabulary = {piece: i for i, piece in enumerate(ours.vocabulary)}
    theirs = transformers.GPT2Tokenizer(
        vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in ours.merges], **settings
    )
    assert ours.tokenize(lines) == theirs(lines)["input_ids"]
    assert ours.decode(ours.encode(lines[-500:])) == lines[-500:]
