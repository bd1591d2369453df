"""From a folder with a tokenizer to logits and texts, in Keras and in every format."""

import numpy as np
import pytest
from pretrained import ours
from pretrained.case import FIXTURES, TEXT
from safetensors.numpy import load_file

import keras_attn
from keras_attn.export import export

FORMATS = ("saved_model", "tflite", "onnx")


def load(name):
    return keras_attn.from_pretrained(FIXTURES / name), load_file(FIXTURES / name / "expected.safetensors")


def test_the_logits_of_a_text():
    model, expected = load("BertForSequenceClassification-text")
    logits = model(model.tokenizer.encode([TEXT]))
    assert ours.difference(logits, expected["text/logits"]) <= 1e-5
    assert list(model.labels) == ["bad", "good"]


@pytest.mark.parametrize("name", ["LlamaForCausalLM-text", "T5ForConditionalGeneration"])
def test_the_text_of_a_text(name):
    model, expected = load(name)
    (text,) = model.generate([TEXT], max_length=8)
    assert text == model.tokenizer.decode(expected["text/tokens"])[0]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BertForSequenceClassification-text", "classify"),
        ("LlamaForCausalLM-text", "generate"),
        ("T5ForConditionalGeneration", "generate"),
    ],
)
def test_every_format_holds_the_tokenizer(name, task, tmp_path):
    model, _ = load(name)
    report = export(model, tmp_path, FORMATS, tasks=task, samples=[TEXT, "A cat", "Two dogs bark at the moon"])
    assert report.ok
    assert [row["format"] for row in report.rows] == list(FORMATS)
    assert all(np.isfinite(row["max_abs_diff"] or 0) for row in report.rows)


def test_max_length():
    folder = FIXTURES / "BertForSequenceClassification-text"
    model = keras_attn.from_pretrained(folder, max_length=6)
    assert model.tokenizer.encode([TEXT]).shape == (1, 6)
    assert keras_attn.from_pretrained(folder).tokenizer.max_length == 40
    with pytest.raises(ValueError, match="`max_length` must be at most 40"):
        keras_attn.from_pretrained(folder, max_length=41)
    with pytest.raises(ValueError, match="`max_length` must be None without tokenizer"):
        keras_attn.from_pretrained(FIXTURES / "GPT2LMHeadModel", max_length=6)


def test_written_files_hold_the_tokenizer(tmp_path):
    model, _ = load("BertForSequenceClassification-text")
    model.save_pretrained(tmp_path)
    again = keras_attn.from_pretrained(tmp_path)
    assert again.tokenizer == model.tokenizer
    np.testing.assert_array_equal(again(again.tokenizer.encode([TEXT])), model(model.tokenizer.encode([TEXT])))
