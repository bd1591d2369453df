"""Artefacts of every format give the ids and the texts of the tokenizer that they hold."""

import functools
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from training_processes import run_script

from keras_attn.export import TensorSpec, registry
from keras_attn.export.verification import clients
from keras_attn.text import (
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    WordPieceTokenizer,
    tensorflow_writer,
    tokenizer_from_folder,
)
from keras_attn.text.graph import byte_symbols
from keras_attn.text.onnx_writer import onnx_strings, onnx_symbols
from keras_attn.text.tensorflow_writer import tensorflow_text_ops

for module, reason in {
    "sentencepiece": "its models are in all artefacts",
    "tokenizers": "it trains and encodes",
    "tensorflow_text": "it holds TensorFlow's ops",
    "ai_edge_litert": "it runs TFLite files",
    "tf2onnx": "it converts graphs",
    "onnxruntime_extensions": "it holds ONNX's operators",
}.items():
    pytest.importorskip(module, reason=reason)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tokenizers"
LETTERS = "".join(random.Random(3).choices("abcdefgh", k=101))
SENTENCES = [
    "",
    " ",
    "a",
    "  two  spaces  at  the  ends  ",
    "the old man and the sea, 1234 miles from Unlikely-Town (pop. 56)!?",
    "It's what we've said: they'll do, I'd don't 'll 'S 's's 'sx ''s \u00a0's",
    "mardi 3 février 2026, naïve ÜBER ß İstanbul ﬁ",
    "tiếng Việt, thứ Ba",
    "e\u0301e\u0300 against éè, a\u0327\u0301 q\u0301",
    "вторник, 3 марта",
    "Τρίτη 3 Μαρτίου ΟΔΟΣ",
    "الثُّلَاثَاء، ٣ مَارِس",
    "سه\u200cشنبه ۱۲ اسفند",
    "יוֹם שְׁלִישִׁי",
    "มี.ค. วันอังคารที่ ๓",
    "मंगलवार, ३ मार्च क्\u200dष",
    "2026年3月3日 火曜日",
    "2026년 3월 3일 화요일",
    "\u2581lower one eighth block\u2581",
    "\u00a0no-break\u202fand\u3000wide\u200bspace ",
    "\u200f\u200emarks\u2067of direction\u2069 \ufeffbyte order\ufffd",
    "<s>literal</s> <pad><unk> [CLS] [SEP] <|endoftext|>",
    "𝒳 and 𐍈 beyond the first plane, ½ Ⅷ ² ",
    "def f(x):\n\treturn  x  # ok\r\n\n\n   ",
    "==-->> aaaa",
    "🙂👩\u200d👩\u200d👧 ☃\ufe0f",
    LETTERS[:100] + " " + LETTERS + " " + LETTERS[:70].replace("d", "é"),
    "long text " * 60,
]
UNKNOWN = [*"🙂☃\t\n\r\x01\x7f\u2028Жⴰ\ue000\U0010ffff\u0378漢", "'s"]
CHARACTERS = "".join(sorted(set("".join(SENTENCES[:23])) - set(UNKNOWN)))
MAKERS = {
    "characters": lambda: CharacterTokenizer(CHARACTERS),
    "words": lambda: WordPieceTokenizer.train(SENTENCES * 2, 700, max_length=60),
    "bytes": lambda: BytePairTokenizer.train(SENTENCES, 700, pad_token="<|pad|>", add_start=True, add_end=True),
    "unigram": lambda: SentencePieceTokenizer.train(SENTENCES, 400, add_start=True, add_end=True),
    "fallback": lambda: SentencePieceTokenizer.train(
        SENTENCES, 500, "bpe", trainer={"byte_fallback": True, "character_coverage": 0.99}
    ),
    **{name: functools.partial(tokenizer_from_folder, FIXTURES / name) for name in ("clip", "llama_3", "t5")},
}
CASED = {"lowercase": False, "strip_accents": False}
SETTINGS = {
    "prefix space": lambda: BytePairTokenizer.train(SENTENCES, 600, pad_token="<|pad|>", add_prefix_space=True),
    "one special": lambda: BytePairTokenizer.train(SENTENCES, 600, add_end=True),
    "few bytes": lambda: BytePairTokenizer([*"abcdefgh's ", "ab", "abc", "p"], ["a b", "ab c"], None, None, "p"),
    "cased": lambda: WordPieceTokenizer.train(SENTENCES * 2, 700, split_cjk=False, add_special_tokens=False, **CASED),
    "accents": lambda: WordPieceTokenizer.train(
        SENTENCES * 2, 700, strip_accents=False, unknown_token="<unk>", suffix_indicator="@"
    ),
    "few words": lambda: WordPieceTokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "", "ab", "##bc", "##b", "##a", "'"], max_length=5
    ),
    "empty piece": lambda: BytePairTokenizer([*"abcdefgh's ", "ab", "", "p"], ["a b"], "p", "p", "p", max_length=7),
}
HELD = {
    "saved_model": list(MAKERS),
    "tflite": ["characters", "words", "bytes", "unigram", "clip", "llama_3", "t5"],
    "onnx": [name for name in MAKERS if name != "clip"],
}
LENGTH = 41


def make_texts(count):
    generator = random.Random(7)
    texts = list(SENTENCES)
    texts += [f"{u}{u}{s[:60]}{u} {u}{UNKNOWN[0]}" for s, u in zip(SENTENCES, UNKNOWN * 3, strict=False)]
    for _ in range(count):
        pieces = [generator.choice(CHARACTERS + " ab's") for _ in range(generator.randrange(40))]
        pieces += generator.choices(UNKNOWN, k=generator.randrange(6))
        generator.shuffle(pieces)
        texts.append("".join(pieces))
    return texts


def make_batches(count):
    """Every text in batches of one size or another, and batches of nothing but empty texts."""
    texts, batches = make_texts(count), [[""], ["", "", ""]]
    sizes = (1, 2, 3, 7, 29)
    start = 0
    while start < len(texts):
        size = sizes[len(batches) % len(sizes)]
        batches.append(texts[start : start + size])
        start += size
    return batches


BATCHES = make_batches(60)
# Parts of characters, long forms, surrogates and what no character has; and a whole one beside.
BROKEN = [
    b"ab\xff\xfec",
    b"caf\xe9 au lait",
    b"\xe6\x97",
    b"\xf0\x9f\x99a",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\x82b",
    "日a".encode(),
]
REPLACED = [text.decode("utf-8", "replace") for text in BROKEN]


@pytest.fixture(scope="module")
def tokenizers():
    return {name: make() for name, make in MAKERS.items()}


def make_task(name, tokenizer):
    """A task that returns its ids, and as tokens the same with a quarter of them changed to any others."""

    def call(source_ids):
        ids = ops.pad(source_ids, [[0, 0], [0, LENGTH]], constant_values=tokenizer.pad_id)
        ids = ops.reshape(ids[:, :LENGTH], (-1, LENGTH))
        columns = np.arange(LENGTH, dtype="int32")
        others = ops.mod(ids * 7919 + columns * 31, tokenizer.vocabulary_size)
        return {"ids": source_ids, "tokens": ops.where(ops.mod(ids + columns, 4) == 0, others, ids)}

    # The texts of tokens continue those that were read in every other task.
    model = types.SimpleNamespace(variables=[], tokenizer=tokenizer, continues_prompts=len(name) % 2 == 0)
    inputs = {"source_ids": TensorSpec(("batch", "source_length"), "int32")}
    return types.SimpleNamespace(name=name, tokenizer=tokenizer, call=call, model=model, inputs=inputs, reads_text=True)


@pytest.mark.parametrize("format", HELD)
def test_ids_and_texts(format, tokenizers, tmp_path):
    """In a process of its own, as the text operators of two libraries in one process can crash it."""
    known = registry.names("tasks")
    tasks = {name: make_task(task, tokenizers[name]) for name, task in zip(HELD[format], known, strict=False)}
    emitter = registry.load("formats", format)()
    assert [emitter.name for name in HELD[format] if tokenizers[name].refusal(format)] == []
    emitter.write(emitter.convert(list(tasks.values()), tmp_path), tmp_path)
    cases = {f"inputs/{i}/source": np.array(batch, np.str_) for i, batch in enumerate(BATCHES)}
    cases["inputs/broken/source"] = np.array(BROKEN)
    np.savez(tmp_path / "cases.npz", **cases)
    held = {}
    for task in tasks.values():
        held.setdefault(tmp_path / emitter.path(task.name), {})[task.name] = tmp_path / "cases.npz"
    answers = {}
    for path, cases in held.items():
        answers |= clients.run(format, path, cases, repeat=0)
    for name, task in tasks.items():
        found, _, _ = answers[task.name]
        compared = 0
        if (format, name) != ("tflite", "unigram"):
            ids = task.tokenizer.encode(REPLACED, add_suffix=not task.model.continues_prompts)
            assert found["outputs/broken/ids"].tolist() == ids.tolist(), name
        for i, texts in enumerate(BATCHES):
            if (format, name) == ("onnx", "unigram") and not all(has_one_best(task.tokenizer, text) for text in texts):
                continue
            compared += 1
            # A prompt that goes on has no end.
            source_ids = task.tokenizer.encode(texts, add_suffix=not task.model.continues_prompts)
            expected = {key: np.asarray(value) for key, value in task.call(source_ids).items()}
            for key, value in expected.items():
                assert found[f"outputs/{i}/{key}"].tolist() == value.tolist(), (name, texts)
            after = expected["ids"] if task.model.continues_prompts else None
            text = [text.replace("\0", "") for text in task.tokenizer.decode(expected["tokens"], after)]
            assert found[f"outputs/{i}/text"].tolist() == text, (name, expected["tokens"])
        assert compared > len(BATCHES) // 3


def has_one_best(tokenizer, text):
    """Whether no two segmentations of a text have one score, as those of a run of one letter can."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    found = processor.nbest_encode(text, nbest_size=2) if text else []
    scores = [sum(map(processor.get_score, ids)) for ids in found]
    return len(scores) < 2 or abs(scores[0] - scores[1]) > 1e-3


def test_symbols_are_sentencepieces(tokenizers):
    import sentencepiece

    for name in ("characters", "bytes"):
        processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizers[name].symbols_model())
        for texts in BATCHES:
            expected = tokenizers[name].tokenize(texts) if name == "characters" else [list(t.encode()) for t in texts]
            assert processor.encode(texts) == expected


def symbols_of(texts):
    """What the model of bytes makes of texts."""
    rows = [list(text.encode()) for text in texts]
    length = max(map(len, rows)) + 1
    return np.array([row + [-1] * (length - len(row)) for row in rows], np.int32)


@pytest.mark.parametrize("name", SETTINGS)
def test_ids_and_texts_of_other_settings(name):
    tokenizer, rng = SETTINGS[name](), np.random.default_rng(5)
    batches = make_batches(200)
    length = max(tokenizer.encode(texts).shape[1] for texts in batches)
    ids_of_symbols = tf.function(tokenizer.ids_of_symbols, [tf.TensorSpec((None, None), "int32")], autograph=False)
    rows = tf.TensorSpec((None, length), "int32")
    text_of_ids = {
        False: tf.function(tokenizer.text_of_ids, [rows], autograph=False),
        True: tf.function(tokenizer.text_of_ids, [rows, rows], autograph=False),
    }

    def text_in_graph(*ids):
        ids = [np.pad(x, ((0, 0), (0, length - x.shape[1])), constant_values=tokenizer.pad_id) for x in ids]
        return text_of_ids[len(ids) == 2](*ids)

    for i, texts in enumerate(batches):
        # Graphs of free shapes are faster by far, and a few batches do for what runs eagerly.
        read, write = (tokenizer.ids_of_symbols, tokenizer.text_of_ids) if i < 4 else (ids_of_symbols, text_in_graph)
        expected = tokenizer.encode(texts)
        assert np.asarray(read(symbols_of(texts))).tolist() == expected.tolist(), texts
        ids = np.where(rng.random(expected.shape) < 0.3, rng.integers(0, tokenizer.vocabulary_size), expected)
        for after in ((), (expected,)):
            rows = np.asarray(write(*(x.astype("int32") for x in (ids, *after))))
            found = [b"".join(tokenizer.text_of_ids.strings[i] for i in row).decode() for row in rows]
            assert found == [text.replace("\0", "") for text in tokenizer.decode(ids, *after)], ids


def test_what_is_no_utf8_is_replaced_as_python_does():
    edges = [0x61, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE6, 0xED, 0xF0, 0xF1, 0xF4, 0xF5]
    rows = np.random.default_rng(0).choice(np.array(edges, "int32"), (20000, 9))
    rows = np.where(np.arange(9) < np.arange(len(rows))[:, None] % 10, rows, -1)
    expected = [bytes(row[row >= 0].tolist()).decode("utf-8", "replace") for row in rows]
    points, found = np.asarray(byte_symbols.code_points(rows)), np.asarray(byte_symbols.valid_utf8(rows))
    assert ["".join(map(chr, row[row >= 0])) for row in points] == expected
    assert [bytes(row[row >= 0].tolist()).decode() for row in found] == expected


def test_every_code_point_is_split_as_the_libraries_do(tokenizers):
    """Between letters and digits, and behind spaces."""
    points = [chr(point) for point in range(1, 0x110000) if not 0xD800 <= point < 0xE000]
    texts = ["".join(f"{c}a{c}1 {c}" for c in points[i : i + 997]) for i in range(0, 0x3000, 997)]
    texts += ["".join(f"a{c} " for c in points[i : i + 3989]) for i in range(0x3000, len(points), 3989 * 5)]
    for name in ("words", "bytes"):
        for text in texts:
            ids = np.asarray(tokenizers[name].ids_of_symbols(symbols_of([text])))
            assert ids.tolist() == tokenizers[name].encode([text]).tolist()


@pytest.mark.parametrize(
    ("emit", "module", "extra"),
    [(tensorflow_text_ops, "tensorflow_text", "text"), (onnx_symbols, "onnx", "onnx"), (onnx_strings, "onnx", "onnx")],
)
def test_a_missing_extra_is_named(monkeypatch, emit, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'keras_attn\[{extra}\]'"):
        emit(CharacterTokenizer("abc"))


JOINS = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from run_tflite import TFLiteArtefact

strings, join = [b"", b"a", b"b", "äö".encode()], TFLiteArtefact(sys.argv[1], "join")
for size, length in ((1, 0), (2, 1), (3, 8), (2, 9), (2, 63), (1, 65), (2, 5000)):
    rows = np.random.default_rng(length).integers(0, 4, (size, length)).astype("int32")
    texts = [b"".join(strings[i] for i in row).decode() for row in rows]
    assert join({"rows": rows})["text"].tolist() == texts, (size, length)
"""


def test_rows_of_unknown_length_are_joined(tmp_path):
    strings, kit = tf.constant(["", "a", "b", "äö"]), Path(__file__).parents[2] / "export"
    spec = tf.TensorSpec((None, None), "int32", name="rows")
    join = tf.function(lambda rows: {"text": tensorflow_writer._joined_by_groups(strings, rows)}, autograph=False)
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), {"join": join.get_concrete_function(spec)})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    converter.allow_custom_ops = True
    (tmp_path / "join.tflite").write_bytes(converter.convert())
    # The operator that joins strings crashes in TensorFlow itself.
    process = run_script(JOINS, tmp_path / "join.tflite", kit)
    assert process.returncode == 0, process.stderr
