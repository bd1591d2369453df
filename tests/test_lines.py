"""One reader of lines: it cuts at line feeds, and at nothing else that `str.splitlines` knows."""

import gzip

import pytest

from keras_attn.lines import numbered_lines, read_lines, read_text
from keras_attn.text import BytePairTokenizer, Tokenizer, WordPieceTokenizer

INSIDE = [
    "U+2028\u2028x",
    "U+0085\x85x",
    "file\x1cseparator",
    "form\x0cfeed",
    "return\rx",
    "NUL\0x",
    "\ufeffmark",
    "日",
]
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("name", ["a.txt", "a.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", BOM], ids=["", "bom"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_lines(name, end, mark, last, tmp_path):
    content = mark + end.join(["first", *INSIDE, "", "last"]).encode() + last * end.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name == "a.gz" else content)
    assert read_lines(path) == ["first", *INSIDE, "", "last"]
    assert list(numbered_lines(str(path))) == list(enumerate(read_lines(path), 1))
    assert read_text(path) == "\n".join(read_lines(path))


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"a\.txt must be text in UTF-8\. Received: other bytes in line 2"):
        read_lines(tmp_path / "a.txt")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text\n" * 9)[:-4])
    with pytest.raises(ValueError, match=r"must be whole.*a\.gz, damaged after line 9"):
        read_lines(tmp_path / "a.gz")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_vocabularies_are_read_by_it(end, tmp_path):
    pytest.importorskip("tokenizers")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a\u2028b", "\x85"]
    (tmp_path / "vocab.txt").write_bytes(BOM + end.join([*pieces, ""]).encode())
    assert WordPieceTokenizer.from_file(tmp_path / "vocab.txt").vocabulary == pieces
    (tmp_path / "vocab.json").write_bytes(BOM + b'{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}')
    (tmp_path / "merges.txt").write_bytes(BOM + end.join(["#version: 0.2", "a b", ""]).encode())
    tokenizer = BytePairTokenizer.from_file(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert tokenizer.merges == ["a b"]


def test_a_saved_tokenizer_may_have_a_byte_order_mark(tmp_path):
    pytest.importorskip("tokenizers")
    tokenizer = BytePairTokenizer.train([""], 257)
    tokenizer.save(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(BOM + (tmp_path / "a.json").read_bytes())
    assert Tokenizer.load(tmp_path / "a.json") == tokenizer
