"""The examples learn from the tiny data that they carry."""

import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_attn

pytest.importorskip("tokenizers", reason="the examples train their tokenizers with it")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example without an export: `(its report, the model that it saved)`."""
    monkeypatch.delenv("KERAS_ATTN_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples"), *sys.path])

    def run(name, *arguments):
        module = importlib.import_module(name)
        assert module.main(["--out", str(tmp_path), "--formats", "--steps", *arguments]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        return report, keras.saving.load_model(tmp_path / "model.keras", compile=False)

    return run


def test_language_model(run, capsys):
    report, model = run("language_model", "40")
    assert report["validation_loss"] < 3.0 < np.log(model.tokenizer.vocabulary_size)
    assert report["curves"]["step"] == list(range(5, 41, 5))
    assert report["curves"]["val_loss"][-1] == report["validation_loss"] < report["curves"]["val_loss"][0]
    text = "And so " + model.generate(["And so "])[0]
    assert text in capsys.readouterr().out


def test_classify_text(run):
    report, model = run("classify_text", "30")
    assert report["accuracy"] > 0.9
    ids = model.tokenizer.encode(["oil prices profit bank", "goal coach match win"])
    logits = model({"token_ids": ids})
    np.testing.assert_array_equal(np.argmax(logits, -1), [2, 1])


@pytest.mark.parametrize(("name", "steps"), [("transformer", 25), ("rnn", 20)])
def test_translate(run, name, steps):
    pytest.importorskip("sacrebleu", reason="translate.py measures BLEU with it")
    report, model = run("translate", str(steps), "--model", name)
    assert isinstance(model, keras_attn.Transformer if name == "transformer" else keras_attn.Seq2SeqRNN)
    assert report["averaged"] == [steps]
    assert report["validation"]["loss"] < 0.7 * np.log(model.tokenizer.vocabulary_size)


def test_without_data(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="--data must be a folder with multi30k"):
        run("translate", "4", "--data", str(tmp_path))
