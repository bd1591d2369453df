"""A tokenizer whose file was damaged, or made to do harm, is refused when it is loaded, at no cost."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.text import BytePairTokenizer, CharacterTokenizer, SentencePieceTokenizer, Tokenizer, WordPieceTokenizer

TEXTS = ["to be or not to be", "not to be or to be, ﬁne"] * 3
TOKENIZERS = {
    "character": CharacterTokenizer("abcdeﬁ "),
    "byte pair": BytePairTokenizer.train(TEXTS, 262),
    "word piece": WordPieceTokenizer.train(TEXTS, 40),
    "unigram": SentencePieceTokenizer.train(TEXTS, 30),
    "bpe": SentencePieceTokenizer.train(TEXTS, 30, kind="bpe"),
    "bytes": SentencePieceTokenizer.train(TEXTS, 300, trainer={"byte_fallback": True}),
}
# What is not a name, a number or a flag by its nature has none of these values.
HUGE = 1_000_000_000
FLAGS = {"add_start", "add_end", "add_prefix_space", "lowercase", "strip_accents", "split_cjk", "add_special_tokens"}
LENGTHS = {"max_length": 2**31, "pad_id": 2**31}
CASES = [
    (name, argument, LENGTHS.get(argument, HUGE))
    for name, tokenizer in TOKENIZERS.items()
    for argument in tokenizer.get_config()
]


def use(tokenizer):
    ids = tokenizer.encode([*TEXTS, "é 日本 Ⅷ \x01", ""])
    tokenizer.decode(ids)
    assert tokenizer.refusal("tflite") is None or isinstance(tokenizer.refusal("tflite"), str)


@pytest.mark.parametrize(("name", "argument", "value"), CASES)
def test_a_huge_number(name, argument, value, tmp_path):
    tokenizer = TOKENIZERS[name]
    path = tmp_path / "tokenizer.json"
    content = json.loads(tokenizer.to_json())
    content["config"][argument] = value
    path.write_text(json.dumps(content))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=argument if argument in FLAGS | {*LENGTHS, "model"} else "`"):
            Tokenizer.load(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("config", [None, [], {"characters": "ab", "more": 1}, 5])
def test_settings_of_another_form(config, tmp_path):
    content = json.loads(TOKENIZERS["character"].to_json())
    (tmp_path / "file").write_text(json.dumps(content | {"config": config}))
    with pytest.raises(ValueError, match="`path`"):
        Tokenizer.load(tmp_path / "file")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["unigram", "bpe", "bytes"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(max_size=12),
    st.booleans(),
)
def test_a_damaged_sentence_piece_model_is_refused_or_works(name, place, new, from_the_end):
    """Near the end lie the settings, before them the rules of characters, which take most of the bytes."""
    model = bytearray(TOKENIZERS[name].model)
    start = int(len(model) - 1 - 400 * place if from_the_end else 400 * place)
    model[start : start + len(new) if new else None] = new
    try:
        tokenizer = SentencePieceTokenizer(bytes(model))
    except ValueError:
        return
    use(tokenizer)


@pytest.mark.parametrize(
    ("old", "new"), [(b"<0x41>", b"<0xZZ>"), ("\u2581".encode(), b"\xff\xff\xff"), (b"</s>", b"\xff\xff\xff>")]
)
def test_pieces_that_are_no_text(old, new):
    model = TOKENIZERS["bytes" if b"0x" in old else "unigram"].model
    assert old in model
    with pytest.raises(ValueError, match="`model` must be a SentencePiece model"):
        SentencePieceTokenizer(model.replace(old, new))


def test_rules_of_characters_that_are_damaged():
    proto = SentencePieceTokenizer.train(TEXTS, 30).model
    rules = proto.index(b"nmt_nfkc")
    for offset in (20, 100, 5000, 50_000):
        damaged = bytearray(proto)
        damaged[rules + offset : rules + offset + 4] = b"\xff" * 4
        with pytest.raises(ValueError, match="`model` must be a SentencePiece model"):
            SentencePieceTokenizer(bytes(damaged))
