"""A text that is longer than the model can read is cut where the tokenizer says so, and refused elsewhere."""

import deployed_clients
import numpy as np
import pytest

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Transformer
from keras_attn.export import export
from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.text import CharacterTokenizer

SIZES = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}
CLIENTS = {"saved_model": "saved_model", "tflite": "model.tflite", "onnx": "classify.onnx"}
WORDS = {
    "saved_model": "inputs_must_have_at_most_12_positions",
    "tflite": "more tokens than the model has positions",
    "onnx": "inputs_must_have_at_most_12_positions",
}


def answered(format, folder, line):
    return deployed_clients.run(format, folder / CLIENTS[format], line)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    position = LearnedPositionEmbedding(12)
    model = EncoderModel(30, **SIZES, head="sequence_classification", num_classes=2, position=position)
    assert export(model, folder, list(CLIENTS), tasks="classify").ok
    return folder


@pytest.mark.parametrize("format", CLIENTS)
def test_an_artefact_says_that_an_input_is_too_long(exported, format):
    assert answered(format, exported, " ".join(["5"] * 12)).returncode == 0
    failed = answered(format, exported, " ".join(["5"] * 13))
    assert failed.returncode != 0
    assert WORDS[format] in failed.stderr


def test_keras_says_so_too():
    tokenizer = CharacterTokenizer("ab")
    for made, words in ((Transformer, "at most the 12 positions of the encoder"), (LanguageModel, "within the 12 pos")):
        position = LearnedPositionEmbedding(12)
        model = made(tokenizer.vocabulary_size, **SIZES, position=position, tokenizer=tokenizer)
        with pytest.raises(ValueError, match=words):
            model.generate(["ab" * 7], max_length=3)
        cut = CharacterTokenizer("ab", max_length=9)
        model = made(cut.vocabulary_size, **SIZES, position=LearnedPositionEmbedding(12), tokenizer=cut)
        assert model.generate(["ab" * 7], max_length=3) == model.generate([("ab" * 7)[:9]], max_length=3)
        with pytest.raises(ValueError, match="`tokenizer` must have a `max_length` of at most the 8 positions"):
            made(cut.vocabulary_size, **SIZES, position=LearnedPositionEmbedding(8), tokenizer=cut)


def test_artefacts_cut_texts_where_the_tokenizer_does(tmp_path):
    tokenizer = CharacterTokenizer("ab", max_length=5)
    config = GenerationConfig(3)
    position = LearnedPositionEmbedding(8)
    model = LanguageModel(6, **SIZES, position=position, tokenizer=tokenizer, generation_config=config)
    samples = ["a", "ab" * 9, "b" * 5, "a" * 6]
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks="generate", samples=samples)
    assert report.ok
    assert all(row["identical"] == row["total"] for row in report.rows)
    assert np.all(tokenizer.encode(samples, length=20)[:, 5:] == tokenizer.pad_id)
