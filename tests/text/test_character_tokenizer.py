import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_attn.extras import require
from keras_attn.text import CharacterTokenizer


@pytest.fixture
def tokenizer():
    return CharacterTokenizer("abc é日")


def test_ids_begin_after_the_specials_in_the_order_given(tokenizer):
    assert (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.start_id, tokenizer.end_id) == (0, 1, 2, 3)
    assert tokenizer.vocabulary_size == 10
    assert tokenizer.encode(["abc é日"]).tolist() == [[4, 5, 6, 7, 8, 9]]
    assert tokenizer.id_to_character == ["", "", "", "", "a", "b", "c", " ", "é", "日"]


@pytest.mark.parametrize("characters", [["b", "a"], ("b", "a"), iter("ba"), dict.fromkeys("ba")])
def test_any_iterable_of_characters(characters):
    assert CharacterTokenizer(characters) == CharacterTokenizer("ba") != CharacterTokenizer("ab")


@pytest.mark.parametrize(
    "characters",
    ["", [], ["ab"], ["a", ""], ["a", 1], "aba", "a\t", "a\n", "a\r", "a\0", "a\ud800", ["e\u0301"]],
)
def test_refused_characters(characters):
    with pytest.raises(ValueError, match=r"`characters` must .*Received"):
        CharacterTokenizer(characters)


def test_encode_pads_to_the_longest_text(tokenizer):
    ids = tokenizer.encode(["ab", "", "abc"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [[4, 5, 0], [0, 0, 0], [4, 5, 6]]


def test_encode_pads_or_truncates_to_a_length(tokenizer):
    assert tokenizer.encode(["ab", "abc"], length=4).tolist() == [[4, 5, 0, 0], [4, 5, 6, 0]]
    assert tokenizer.encode(["ab", "abc"], length=1).tolist() == [[4], [4]]
    assert tokenizer.encode(["??ab"], length=2).tolist() == [[1, 4]]


def test_encode_never_gives_a_matrix_without_columns(tokenizer):
    assert tokenizer.encode(["", ""]).tolist() == [[0], [0]]
    assert tokenizer.encode([]).shape == (0, 1)


def test_runs_of_unknown_characters_are_one_id_within_a_text(tokenizer):
    ids = tokenizer.encode(["??a\U0001f642\ud800\U0010ffff", "\t\n", "A?b"])
    assert ids.tolist() == [[1, 4, 1], [1, 0, 0], [1, 5, 0]]


@pytest.mark.parametrize("texts", ["abc", b"abc", [b"abc"], ["a", None], [["a"]]])
def test_encode_refuses_all_but_lists_of_strings(tokenizer, texts):
    with pytest.raises(ValueError, match=r"`texts` must be a list of strings. Received: "):
        tokenizer.encode(texts)


def test_encode_takes_any_sequence_of_strings(tokenizer):
    for texts in (("ab", "c"), np.array(["ab", "c"])):
        assert tokenizer.encode(texts).tolist() == [[4, 5], [6, 0]]


def test_encode_refuses_a_length_without_columns(tokenizer):
    with pytest.raises(ValueError, match=r"`length` must be positive. Received: length=0"):
        tokenizer.encode(["a"], length=0)


def test_decode_stops_at_the_end_and_drops_specials(tokenizer):
    ids = [[2, 4, 1, 5, 3, 6], [3, 4, 4, 4, 4, 4], [9, 7, 8, 0, 6, 0]]
    assert tokenizer.decode(ids) == ["ab", "", "日 éc"]
    assert tokenizer.decode(np.zeros((2, 0), np.int32)) == ["", ""]


def test_decode_reverses_encode(tokenizer):
    texts = ["  a b  ", "日日", ""]
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


@pytest.mark.parametrize("ids", [[4, 5], [[4.0]], [[10]], [[-1]], 4])
def test_decode_refuses_other_than_a_matrix_of_known_ids(tokenizer, ids):
    with pytest.raises(ValueError, match=r"`ids` must be .*Received"):
        tokenizer.decode(ids)


def test_config_round_trip_through_json(tokenizer):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(tokenizer)))
    assert config["registered_name"] == "keras_attn>CharacterTokenizer"
    assert keras.saving.deserialize_keras_object(config) == tokenizer


def test_repr_is_the_constructor_call(tokenizer):
    assert repr(tokenizer) == "CharacterTokenizer('abc é日')"
    assert len({tokenizer, CharacterTokenizer("abc é日")}) == 1


def test_import_loads_no_extra():
    check = (
        "import sys, keras_attn.text\n"
        "extras = {'tensorflow_text', 'sentencepiece', 'onnx', 'onnxruntime', 'tf2onnx'}\n"
        "assert not extras & set(sys.modules), extras & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_missing_extra_is_named(monkeypatch, tokenizer):
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"needs sentencepiece.*pip install 'keras_attn\[text\]'"):
        tokenizer.sentencepiece_model()
    with pytest.raises(ImportError, match=r"needs not-there.*pip install 'keras_attn\[onnx\]'"):
        require("not_there.at_all", "onnx")


class TestFile:
    @pytest.fixture(autouse=True)
    def model_class(self):
        module = pytest.importorskip(
            "sentencepiece.sentencepiece_model_pb2", reason="the file is a SentencePiece model"
        )
        self.proto = module.ModelProto()

    def load(self, folder):
        path = folder / "other.model"
        path.write_bytes(self.proto.SerializeToString())
        return CharacterTokenizer.load(path)

    def test_round_trip_replaces_and_leaves_nothing_else(self, tokenizer, tmp_path):
        path = tmp_path / "tokenizer.model"
        path.write_bytes(b"old")
        tokenizer.save(str(path))
        assert os.listdir(tmp_path) == ["tokenizer.model"]
        assert path.read_bytes() == tokenizer.sentencepiece_model()
        assert CharacterTokenizer.load(path) == tokenizer

    def test_bytes_depend_on_the_characters_alone(self, tokenizer):
        again = CharacterTokenizer(list("abc é日"))
        assert again.sentencepiece_model() == tokenizer.sentencepiece_model()

    @pytest.mark.parametrize("content", [b"\xff\xff\xff\xff", b"not a model"])
    def test_refuses_another_kind_of_file(self, tmp_path, content):
        path = tmp_path / "tokenizer.model"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="`path` must be a SentencePiece model file"):
            CharacterTokenizer.load(path)

    def test_refuses_other_specials(self, tokenizer, tmp_path):
        with pytest.raises(ValueError, match="must begin with the pieces"):
            self.load(tmp_path)
        self.proto.ParseFromString(tokenizer.sentencepiece_model())
        self.proto.pieces[3].piece = "<eos>"
        with pytest.raises(ValueError, match=r"must begin with the pieces .*Received.*<eos>"):
            self.load(tmp_path)

    def test_refuses_pieces_of_several_characters(self, tokenizer, tmp_path):
        self.proto.ParseFromString(tokenizer.sentencepiece_model())
        self.proto.pieces[5].piece = "ing"
        with pytest.raises(ValueError, match=r"single characters .*Received.*ing"):
            self.load(tmp_path)

    def test_refuses_other_types(self, tokenizer, tmp_path):
        self.proto.ParseFromString(tokenizer.sentencepiece_model())
        self.proto.pieces[5].type = self.proto.SentencePiece.UNUSED
        with pytest.raises(ValueError, match=r"pieces of other types, \['b'\]"):
            self.load(tmp_path)

    def test_refuses_a_normaliser(self, tokenizer, tmp_path):
        self.proto.ParseFromString(tokenizer.sentencepiece_model())
        self.proto.normalizer_spec.add_dummy_prefix = True
        with pytest.raises(ValueError, match="must not change text"):
            self.load(tmp_path)


def test_max_length_is_saved(tmp_path):
    tokenizer = CharacterTokenizer("abc", max_length=2)
    assert tokenizer.encode(["abc", "b"]).tolist() == [[4, 5], [5, 0]]
    tokenizer.save(tmp_path / "tokenizer.json")
    assert CharacterTokenizer.load(tmp_path / "tokenizer.json") == tokenizer != CharacterTokenizer("abc")
