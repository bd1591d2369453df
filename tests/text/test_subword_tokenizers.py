"""What the tokenizers that learn pieces have in common, and BERT's pairs."""

import copy
import itertools
import os
import pickle

import keras
import numpy as np
import pytest

from keras_attn import LanguageModel
from keras_attn.generation import GenerationConfig
from keras_attn.text import BytePairTokenizer, SentencePieceTokenizer, Tokenizer, WordPieceTokenizer
from keras_attn.training import TextDataset

pytest.importorskip("tokenizers", reason="it trains and encodes")
pytest.importorskip("sentencepiece", reason="it trains and encodes")

TEXTS = ["the old man and the sea", "the sea and the old ship", "a man on the ship, at sea!"] * 3
MAKERS = {
    "word": lambda: WordPieceTokenizer.train(TEXTS, 60),
    "unigram": lambda: SentencePieceTokenizer.train(TEXTS, 40, add_start=True, add_end=True),
    "bpe": lambda: SentencePieceTokenizer.train(TEXTS, 40, "bpe"),
    "bytes": lambda: BytePairTokenizer.train(TEXTS, 290, pad_token="<|pad|>", add_start=True, add_end=True),
}


@pytest.fixture(params=MAKERS, scope="module")
def tokenizer(request):
    return MAKERS[request.param]()


def test_encode_pads_truncates_and_keeps_specials(tokenizer):
    ids = tokenizer.encode(["the sea", "the old man and the sea"])
    assert ids.dtype == np.int32
    rows = [[*tokenizer.prefix, *row, *tokenizer.suffix] for row in tokenizer.tokenize(["the sea"])]
    assert ids[0].tolist() == rows[0] + [tokenizer.pad_id] * (ids.shape[1] - len(rows[0]))
    short = tokenizer.encode(TEXTS, length=4)
    assert short.shape == (9, 4)
    if tokenizer.suffix:
        assert (short[:, -1] == tokenizer.end_id).all()
        with pytest.raises(ValueError, match="`length` must be at least 2, for the special tokens"):
            tokenizer.encode(TEXTS, length=1)
    assert tokenizer.encode(["", "\ud800"]).shape[0] == 2


def test_pickles(tokenizer):
    dataset = TextDataset(TEXTS, tokenizer, batch_size=np.int64(3))
    # What was made when it was needed first is not pickled.
    assert tokenizer.text_of_ids.strings
    assert tokenizer.has_fast_symbols in (True, False)
    for copied in (lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy):
        found = copied(tokenizer)
        assert found == tokenizer
        assert hash(found) == hash(tokenizer)
        assert found.decode(found.encode(TEXTS)) == tokenizer.decode(tokenizer.encode(TEXTS))
        keras.tree.map_structure(
            np.testing.assert_array_equal, next(copied(dataset).batches()), next(dataset.batches())
        )


def test_max_length_counts_the_special_tokens(tokenizer, tmp_path):
    config = tokenizer.get_config()
    short = type(tokenizer).from_config({**config, "max_length": 5})
    np.testing.assert_array_equal(short.encode(TEXTS), tokenizer.encode(TEXTS, length=5))
    np.testing.assert_array_equal(short.encode(TEXTS, length=4), tokenizer.encode(TEXTS, length=4))
    wide = short.encode(TEXTS, length=9)
    assert wide.shape == (9, 9)
    assert (wide[:, 5:] == tokenizer.pad_id).all()
    np.testing.assert_array_equal(wide[:, :5], short.encode(TEXTS))
    short.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").max_length == 5
    assert short != tokenizer
    for bad in (len(tokenizer.prefix + tokenizer.suffix), -1, 2.5, True):
        with pytest.raises(ValueError, match="`max_length` must be an integer above"):
            type(tokenizer).from_config({**config, "max_length": bad})


def test_a_continuation_keeps_the_space_before_it(tokenizer):
    """Read together, prompt and continuation are the texts of both, one after the other."""
    rng = np.random.default_rng(3)
    prompts = tokenizer.tokenize(["the old man", "a ship"])
    for _ in range(60):
        tokens = rng.integers(0, tokenizer.vocabulary_size, (2, 4))
        for prompt, row in zip(prompts, tokens, strict=True):
            together = [[*prompt, *row[: list(row).index(tokenizer.end_id) if tokenizer.end_id in row else 4]]]
            first, more = tokenizer.decode([prompt])[0], tokenizer.decode(row[None], after=[prompt])[0]
            if "\ufffd" not in more:
                assert first + more == tokenizer.decode(together)[0]
    # After nothing but special tokens, a text begins.
    word = np.array([tokenizer.tokenize(["sea"])[0]])
    assert tokenizer.decode(word, after=[[tokenizer.start_id]]) == tokenizer.decode(word) == ["sea"]


def test_pieces_and_ids(tokenizer):
    assert [tokenizer.token_to_id(piece) for piece in tokenizer.vocabulary] == list(range(tokenizer.vocabulary_size))
    assert [tokenizer.id_to_token(i) for i in np.arange(tokenizer.vocabulary_size)] == tokenizer.vocabulary
    with pytest.raises(ValueError, match="`id` must be in"):
        tokenizer.id_to_token(tokenizer.vocabulary_size)
    if tokenizer.unknown_id is not None:
        assert tokenizer.token_to_id("no such piece") == tokenizer.unknown_id
    else:
        with pytest.raises(ValueError, match="`token` must be a piece"):
            tokenizer.token_to_id("no such piece")


@pytest.mark.parametrize("cls", [BytePairTokenizer, WordPieceTokenizer])
def test_unsplittable_tokens_are_found_whole(cls):
    pad = "<|pad|>"
    made = cls.train(TEXTS, 300, pad_token=pad, unsplittable_tokens=["<|sea MAP|>", pad])
    text = f"the<|sea MAP|>old {pad}<|sea MAP|>"
    [ids] = made.tokenize([text])
    special = [made.token_to_id(token) for token in ("<|sea MAP|>", pad)]
    assert [i for i in ids if i in special] == [special[0], special[1], special[0]]
    rest = made.tokenize(["the", "old "])
    assert [i for i in ids if i not in special] == rest[0] + rest[1]
    assert pad not in made.decode([ids])[0]
    assert made.decode([ids])[0].count("<|sea MAP|>") == 2
    assert cls.from_config(made.get_config()).tokenize([text]) == [ids]
    assert "unsplittable" in made.refusal("onnx")
    with pytest.raises(ValueError, match="`vocabulary` must contain"):
        cls.from_config({**made.get_config(), "unsplittable_tokens": ["<other>"]})
    with pytest.raises(ValueError, match="`unsplittable_tokens` must be a list of strings"):
        cls.from_config({**made.get_config(), "unsplittable_tokens": "<other>"})


def test_word_pieces_with_other_special_tokens():
    names = {"pad_token": "<pad>", "unknown_token": "<unk>", "start_token": "<s>", "end_token": "</s>"}
    settings = {**names, "mask_token": "<mask>", "suffix_indicator": "@@"}
    trained, usual = WordPieceTokenizer.train(TEXTS, 60, **settings), WordPieceTokenizer.train(TEXTS, 60)
    assert trained.vocabulary[:5] == ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    assert any(piece.startswith("@@") for piece in trained.vocabulary)
    pieces = [piece.replace("##", "@@") for piece in usual.vocabulary[5:]]
    made = WordPieceTokenizer([*trained.vocabulary[:5], *pieces], **settings)
    texts = ["the old ships", "seaman 7"]
    np.testing.assert_array_equal(made.encode(texts), usual.encode(texts))
    assert made.decode(made.encode(texts)) == usual.decode(usual.encode(texts))


def test_decode_reverses_encode(tokenizer):
    texts = ["the old man", "a ship and the sea"]
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("suffix", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_sentencepiece_spaces_are_the_librarys(kind, suffix, fallback):
    """Unknown pieces read as nothing here; stray bytes are replaced one by one there."""
    rng = np.random.default_rng(4)
    for dummy, extra in itertools.product([True, False], repeat=2):
        trainer = {"add_dummy_prefix": dummy, "remove_extra_whitespaces": extra, "treat_whitespace_as_suffix": suffix}
        trainer |= {"byte_fallback": fallback, "unk_surface": "", "user_defined_symbols": ["\u2581\u2581"]}
        made = SentencePieceTokenizer.train([*TEXTS, " a  b "], 50 + 256 * fallback, kind, trainer)
        spaces = [i for i, reading in enumerate(made.readings()[0]) if b" " in reading]
        for _ in range(100):
            size = int(rng.integers(1, 6))
            ids = np.where(
                rng.random(size) < 0.5, rng.choice(spaces, size), rng.integers(4, made.vocabulary_size, size)
            )
            theirs = made._processor.decode(ids.tolist())
            if "\ufffd" not in theirs:
                assert made.decode(ids[None])[0] == theirs


def test_file_and_config_round_trips(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    assert os.listdir(tmp_path) == ["tokenizer.json"]
    assert Tokenizer.load(path) == tokenizer == type(tokenizer).load(path)
    config = keras.saving.serialize_keras_object(tokenizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy == tokenizer
    assert hash(copy) == hash(tokenizer)
    other = BytePairTokenizer if type(tokenizer) is not BytePairTokenizer else WordPieceTokenizer
    with pytest.raises(ValueError, match=f"must contain a {other.__name__}"):
        other.load(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="`path` must be a file written by"):
        Tokenizer.load(path)


@pytest.mark.parametrize("texts", ["abc", [b"abc"], ["a", None]])
def test_encode_refuses_all_but_lists_of_strings(tokenizer, texts):
    with pytest.raises(ValueError, match="`texts` must be a list of strings"):
        tokenizer.encode(texts)


def test_a_model_generates_and_saves(tokenizer, tmp_path):
    config = GenerationConfig(3, start_id=tokenizer.start_id, end_id=tokenizer.end_id)
    model = LanguageModel(
        tokenizer.vocabulary_size, 1, 8, 2, 16, pad_id=tokenizer.pad_id, tokenizer=tokenizer, generation_config=config
    )
    texts = model.generate(["the sea"])
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").generate(["the sea"]) == texts


@pytest.mark.parametrize("vocabulary", [["[PAD]"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "a"], []])
def test_word_piece_refuses_other_vocabularies(vocabulary):
    with pytest.raises(ValueError, match="`vocabulary` must"):
        WordPieceTokenizer(vocabulary)


def test_sentence_piece_refuses_other_content():
    with pytest.raises(ValueError, match="`model` must be a SentencePiece model"):
        SentencePieceTokenizer(b"not a model")


def test_byte_pairs_refuse_merges_of_unknown_pieces():
    with pytest.raises(ValueError, match="must contain all pieces of `merges`"):
        BytePairTokenizer(["<|endoftext|>", "a"], ["a b"])


@pytest.mark.parametrize("cls", [WordPieceTokenizer, BytePairTokenizer, SentencePieceTokenizer])
def test_training_is_the_same_each_time(cls):
    # All pairs of characters occur as often, so it takes a rule to say which are merged first.
    words = ["".join(order) for order in itertools.permutations("abcde")]
    size = {SentencePieceTokenizer: 40}.get(cls, 290)
    first, *others = [cls.train(texts, size) for texts in (words, iter(words), words, words)]
    assert [other.get_config() for other in others] == [first.get_config()] * 3
