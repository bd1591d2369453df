"""Every runtime gives the ids and the texts of `CharacterTokenizer`."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from keras_attn.text import CharacterTokenizer
from keras_attn.text.onnx_emitter import onnx_decoder, onnx_encoder
from keras_attn.text.tensorflow_emitter import tensorflow_tokenizer

SENTENCES = [
    "",
    " ",
    "a",
    "  two  spaces  at  the  ends  ",
    "Tuesday, 3 March 2026",
    "mardi 3 février 2026",
    "tiếng Việt, thứ Ba",
    "e\u0301e\u0300 against éè",
    "вторник, 3 марта",
    "Τρίτη 3 Μαρτίου",
    "الثُّلَاثَاء، ٣ مَارِس",
    "سه\u200cشنبه ۱۲ اسفند",
    "יוֹם שְׁלִישִׁי",
    "มี.ค. วันอังคารที่ ๓",
    "मंगलवार, ३ मार्च क्\u200dष",
    "২০২৬ মঙ্গলবার",
    "செவ்வாய், 3 மார்ச்",
    "ခုနှစ် မတ်",
    "2026年3月3日 火曜日",
    "2026년 3월 3일 화요일",
    "სამშაბათი",
    "3 մարտի",
    "ማክሰኞ",
    "\u2581lower one eighth block\u2581",
    "\u00a0no-break\u202fand\u3000wide\u200bspace",
    "\u200f\u200emarks\u2067of direction\u2069",
    "\ufeffbyte order\ufffd",
    "<s>literal</s> <pad><unk>",
    "𝒳 and 𐍈 beyond the first plane",
]
UNKNOWN = ["🙂", "👩\u200d👩\u200d👧", "☃", "\t", "\n", "\r", "\x01", "\u2028", "Ж", "ⴰ"]
CHARACTERS = "".join(sorted(set("".join(SENTENCES))))


def make_texts():
    generator = random.Random(7)
    texts = list(SENTENCES)
    texts += [f"{u}{u}{s}{u} {u}{UNKNOWN[0]}" for s, u in zip(SENTENCES, UNKNOWN * 3, strict=False)]
    for _ in range(250):
        pieces = [generator.choice(CHARACTERS + " ") for _ in range(generator.randrange(30))]
        pieces += generator.choices(UNKNOWN, k=generator.randrange(6))
        generator.shuffle(pieces)
        texts.append("".join(pieces))
    return texts


def make_batches():
    """Every text in batches of one size or another, and batches of nothing but empty texts."""
    texts, batches = make_texts(), [[""], ["", "", ""]]
    sizes = (1, 2, 3, 7, 29, 61)
    start = 0
    while start < len(texts):
        size = sizes[len(batches) % len(sizes)]
        batches.append(texts[start : start + size])
        start += size
    return batches


TOKENIZER = CharacterTokenizer(CHARACTERS)
BATCHES = make_batches()
LENGTH = 65


def id_batches():
    """Ids to decode: the encoded texts at one length, with specials strewn in, so that rows end early."""
    generator = np.random.default_rng(11)
    batches = []
    for texts in BATCHES:
        ids = TOKENIZER.encode(texts, length=LENGTH)
        specials = generator.integers(0, 4, ids.shape, np.int32)
        batches.append(np.where(generator.random(ids.shape) < 0.02, specials, ids))
    return batches


def check(found):
    """Compares a runtime's `{"ids": ..., "texts": ...}` with the pure Python tokenizer's."""
    assert len(found["ids"]) == len(found["texts"]) == len(BATCHES)
    for texts, ids in zip(BATCHES, found["ids"], strict=True):
        assert TOKENIZER.encode(texts).tolist() == ids, texts
    for ids, texts in zip(id_batches(), found["texts"], strict=True):
        assert TOKENIZER.decode(ids) == texts, ids.tolist()


def run(script, folder):
    """Runs a script in a process of its own: text operators of two libraries in one process can crash it."""
    batches = {"texts": BATCHES, "ids": [ids.tolist() for ids in id_batches()]}
    (folder / "batches.json").write_text(json.dumps(batches))
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


def test_sentencepiece():
    sentencepiece = pytest.importorskip("sentencepiece", reason="it is the reference")
    processor = sentencepiece.SentencePieceProcessor(model_proto=TOKENIZER.sentencepiece_model())
    for texts in BATCHES:
        rows = [row[row != 0].tolist() for row in TOKENIZER.encode(texts)]
        assert rows == processor.encode(texts)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    pytest.importorskip("tensorflow_text", reason="it holds the ops")
    import tensorflow as tf

    class Tokenizer(tf.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = tensorflow_tokenizer(TOKENIZER)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
        def encode(self, texts):
            return {"ids": self.tokenizer.encode(texts)}

        @tf.function(input_signature=[tf.TensorSpec([None, LENGTH], tf.int32, name="ids")])
        def decode(self, ids):
            return {"texts": self.tokenizer.decode(ids)}

    folder = tmp_path_factory.mktemp("tokenizer")
    module = Tokenizer()
    signatures = {"encode": module.encode, "decode": module.decode}
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=signatures)
    return folder


def test_saved_model(saved_model):
    import tensorflow as tf

    signatures = tf.saved_model.load(str(saved_model / "saved_model")).signatures
    encode, decode = signatures["encode"], signatures["decode"]
    texts = [decode(ids=tf.constant(ids))["texts"].numpy().tolist() for ids in id_batches()]
    check(
        {
            "ids": [encode(texts=tf.constant(texts))["ids"].numpy().tolist() for texts in BATCHES],
            "texts": [[text.decode() for text in batch] for batch in texts],
        }
    )


TFLITE = """
import json, pathlib, sys
import numpy as np
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

folder = pathlib.Path(sys.argv[1])
batches = json.loads((folder / "batches.json").read_text())
interpreter = InterpreterWithCustomOps(
    custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    model_path=str(folder / "tokenizer.tflite"),
)
encode, decode = (interpreter.get_signature_runner(key) for key in ("encode", "decode"))
ids = [encode(texts=np.array(texts, dtype=object))["ids"].tolist() for texts in batches["texts"]]
texts = [decode(ids=np.array(ids, np.int32))["texts"] for ids in batches["ids"]]
texts = [[text.decode() for text in batch] for batch in texts]
(folder / "found.json").write_text(json.dumps({"ids": ids, "texts": texts}))
"""


def test_tflite(saved_model):
    pytest.importorskip("ai_edge_litert", reason="it runs TFLite files")
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model / "saved_model"), signature_keys=["encode", "decode"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = True
    model = converter.convert()
    assert b"Flex" not in model
    (saved_model / "tokenizer.tflite").write_bytes(model)
    check(run(TFLITE, saved_model))


@pytest.mark.parametrize("length", [1, 4, 5, 6, 40])
def test_tensorflow_decodes_every_length(length):
    pytest.importorskip("tensorflow_text", reason="it holds the ops")
    ids = np.random.default_rng(length).integers(0, TOKENIZER.vocabulary_size, (5, length))
    texts = tensorflow_tokenizer(TOKENIZER).decode(ids).numpy()
    assert [text.decode() for text in texts] == TOKENIZER.decode(ids)


def test_tensorflow_decodes_the_longest_characters():
    pytest.importorskip("tensorflow_text", reason="it holds the ops")
    tokenizer = CharacterTokenizer("𐍈")
    texts = tensorflow_tokenizer(tokenizer).decode(np.full((3, 500), 4)).numpy()
    assert texts.tolist() == [("𐍈" * 500).encode()] * 3


def test_tensorflow_refuses_to_decode_a_dynamic_length():
    pytest.importorskip("tensorflow_text", reason="it holds the ops")
    import tensorflow as tf

    decode = tf.function(tensorflow_tokenizer(TOKENIZER).decode)
    with pytest.raises(ValueError, match=r"where L is static. Received: shape=\(None, None\)"):
        decode.get_concrete_function(tf.TensorSpec([None, None], tf.int32))


ONNX = """
import json, pathlib, sys
import onnxruntime_extensions
import numpy as np
import onnxruntime

folder = pathlib.Path(sys.argv[1])
batches = json.loads((folder / "batches.json").read_text())
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(onnxruntime_extensions.get_library_path())

def session(name):
    return onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])

def strings(texts):
    return np.array(texts, dtype=object)

encoder, decoder, joined = session("encoder.onnx"), session("decoder.onnx"), session("joined.onnx")
found = {
    "ids": [encoder.run(None, {"text": strings(texts)})[0].tolist() for texts in batches["texts"]],
    "texts": [decoder.run(None, {"ids": np.array(ids, np.int32)})[0].tolist() for ids in batches["ids"]],
    "joined": [joined.run(None, {"question": strings(texts)})[0].tolist() for texts in batches["texts"]],
}
assert "tensorflow" not in sys.modules
(folder / "found.json").write_text(json.dumps(found))
"""


def test_onnx(tmp_path):
    """The encoder and the decoder alone, and both around a graph that tf2onnx converted."""
    onnx = pytest.importorskip("onnx", reason="it builds the graphs")
    tf2onnx = pytest.importorskip("tf2onnx", reason="it converts the graph between them")
    pytest.importorskip("onnxruntime_extensions", reason="it holds the operators")
    pytest.importorskip("sentencepiece", reason="it writes the encoder's vocabulary")
    import tensorflow as tf

    def reverse(ids):
        return {"output_ids": tf.reverse(ids, axis=[1])}

    signature = [tf.TensorSpec([None, None], tf.int32, name="input_ids")]
    model, _ = tf2onnx.convert.from_function(tf.function(reverse), signature, opset=18)
    output = model.graph.output[0].name
    encoder = onnx_encoder(TOKENIZER, "question", "encoded")
    decoder = onnx_decoder(TOKENIZER, "decoded", "answer")
    joined = onnx.compose.merge_models(encoder, model, io_map=[("encoded", "input_ids")])
    joined = onnx.compose.merge_models(joined, decoder, io_map=[(output, "decoded")])
    onnx.save(joined, tmp_path / "joined.onnx")
    onnx.save(onnx_encoder(TOKENIZER), tmp_path / "encoder.onnx")
    onnx.save(onnx_decoder(TOKENIZER), tmp_path / "decoder.onnx")

    found = run(ONNX, tmp_path)
    check(found)
    for texts, answers in zip(BATCHES, found["joined"], strict=True):
        assert answers == TOKENIZER.decode(TOKENIZER.encode(texts)[:, ::-1])


@pytest.mark.parametrize(
    ("emit", "module", "extra"),
    [
        (tensorflow_tokenizer, "tensorflow_text", "text"),
        (onnx_encoder, "onnx", "onnx"),
        (onnx_decoder, "onnx", "onnx"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, emit, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'keras_attn\[{extra}\]'"):
        emit(TOKENIZER)
