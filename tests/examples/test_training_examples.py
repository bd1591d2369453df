"""The examples learn from the tiny data that they carry."""

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_attn
from keras_attn.text import CharacterTokenizer

pytest.importorskip("tokenizers", reason="the examples train their tokenizers with it")

DATA = os.environ.get("KERAS_ATTN_DATA")
FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example without an export: `(its report, the model that it saved, if it is one)`."""
    monkeypatch.delenv("KERAS_ATTN_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples"), *sys.path])

    def run(name, *arguments):
        module = importlib.import_module(name)
        assert module.main(["--out", str(tmp_path), "--formats", "--steps", *arguments]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        path = tmp_path / "model.keras"
        return report, keras.saving.load_model(path, compile=False) if path.is_file() else None

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


def test_long_text(run):
    report, model = run("long_sequences", "16", "--length", "32", "--mechanism", "local", "--window", "8")
    attention = [block.self_attention.layer for block in model.decoder.blocks]
    assert {(layer.mechanism, layer.window) for layer in attention} == {("local", 8)}
    assert report["validation_loss"] < 0.95 * np.log(model.tokenizer.vocabulary_size)
    assert report["bits"] == pytest.approx(report["validation_loss"] / np.log(2))


def test_long_lists(run):
    report, model = run("long_sequences", "40", "--task", "lists")
    # The most frequent value is that of a seventh.
    assert report["accuracy"] > 0.25
    assert model.labels == list("0123456789")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--length", "8"], "--length must be 16 or more"),
        (["--length", "400"], "--length must be less than 241, the characters of a part"),
        (["--mechanism", "local"], "--mechanism local needs --window"),
    ],
    ids=["too short", "too long", "no window"],
)
def test_long_sequences_of_bad_sizes(run, options, words, capsys, tmp_path):
    with pytest.raises(SystemExit):
        run("long_sequences", "4", *options)
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_compress(run, tmp_path):
    run("compress", "40")
    models = {
        name: keras.saving.load_model(tmp_path / name / "model.keras", compile=False)
        for name in ("as_trained", "distilled", "pruned", "int8", "all_three")
    }
    heads = {name: [block.num_heads for block in model.encoder.blocks] for name, model in models.items()}
    assert {name: sum(numbers) for name, numbers in heads.items()} == {
        "as_trained": 8,
        "distilled": 2,
        "pruned": 4,
        "int8": 8,
        "all_three": 1,
    }
    assert all(model.labels == ["World", "Sports", "Business", "Sci/Tech"] for model in models.values())
    ids = models["pruned"].tokenizer.encode(["oil prices profit bank", "goal coach match win"])
    for name in ("as_trained", "pruned"):
        np.testing.assert_array_equal(np.argmax(models[name](ids), -1), [2, 1])


def test_classify_images(run, tmp_path):
    report, model = run("classify_images", "60")
    assert report["accuracy"] > 0.9
    assert model.labels == ["circle", "cross", "square", "triangle"]
    assert (tmp_path / "attention.png").stat().st_size > 0


def test_classify_a_folder_of_images(run, tmp_path):
    for label, value in (("dark", 40), ("bright", 200)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(5):
            pixels = np.full((20, 20, 3), value + i, "uint8")
            keras.utils.save_img(tmp_path / "pictures" / label / f"{i}.png", pixels, scale=False)
    options = ["--folder", str(tmp_path / "pictures"), "--image-size", "16", "--model", "vit", "--mix", "cutmix"]
    report, model = run("classify_images", "2", *options)
    assert report["curves"]["step"] == [1, 2]
    assert model.labels == ["bright", "dark"]
    assert model({"images": np.zeros((1, 16, 16, 3))}).shape == (1, 2)


def test_the_size_of_the_compact_transformer(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples"), *sys.path])
    examples = importlib.import_module("classify_images")
    model = examples.build_model("cct", np.zeros((1, 32, 32, 3)), [str(i) for i in range(10)])
    # CCT-2/3x2 has 0.28 M parameters in the paper.
    assert model.count_params() == 283_722


@pytest.mark.parametrize("option", [["--lora", "2"], ["--freeze", "1"]], ids=lambda x: x[0])
def test_finetune(run, option, tmp_path):
    if DATA is None:
        pytest.skip("KERAS_ATTN_DATA must name the folder with AG News")
    folder = tmp_path / "encoder"
    shutil.copytree(FIXTURES / "pretrained" / "BertForSequenceClassification", folder)
    # The ids of its 53 pieces.
    characters = "abcdefghijklmnopqrstuvwx"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{x}" for x in characters)]
    tokenizer = {
        "version": "1.0",
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {f"{x[1:-1].lower()}_token": x for x in pieces[:5]} | {"model_max_length": 40}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    report, model = run("finetune", "3", "--model", str(folder), "--data", DATA, *option)
    assert model.labels == ["World", "Sports", "Business", "Sci/Tech"]
    assert 0 < report["accuracy_before"] < 1
    assert report["trained"] < model.count_params()
    again = keras_attn.from_pretrained(tmp_path / "checkpoint")
    texts = ["a goal", "oil prices"]
    np.testing.assert_allclose(again(again.tokenizer.encode(texts)), model(model.tokenizer.encode(texts)), atol=1e-5)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file() == (option[0] == "--lora")


@pytest.mark.parametrize("options", [["45"], ["20", "--model", "rnn", "--no-copy"]], ids=" ".join)
def test_summarize(run, options, tmp_path):
    report, model = run("summarize", *options)
    assert (model.pointer_generator is None) == ("--no-copy" in options)
    assert report["curves"]["val_rougeL"][-1] > 0
    assert (tmp_path / "copying.png").is_file() == ("--no-copy" not in options)
    if model.pointer_generator is not None:
        assert report["test_rougeL"] > 0.9


def test_a_small_model_of_dates(run, tmp_path, capsys):
    pytest.importorskip("babel", reason="the date corpus is made from the CLDR data in babel")
    dates, corpora = importlib.import_module("normalize_dates"), importlib.import_module("date_corpus")
    teacher = dates.build_model(CharacterTokenizer(corpora.DateCorpus().characters))
    teacher.save(tmp_path / "teacher.keras")
    _, student = run("normalize_dates", "2", "--per-locale", "1", "--teacher", str(tmp_path / "teacher.keras"))
    assert student.count_params() < teacher.count_params() / 4
    other = dates.build_model(CharacterTokenizer("0123456789-"))
    other.save(tmp_path / "other.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "teacher.keras").read_bytes()[:-99])
    shutil.copy(tmp_path / "teacher.keras", tmp_path / "model.keras")
    before = sorted(tmp_path.iterdir())
    for name, words in (
        ("", "--teacher must be a model.keras"),
        ("none.keras", "--teacher must be a model.keras"),
        ("cut.keras", "--teacher must be a model.keras"),
        ("other.keras", "a Transformer with the tokenizer CharacterTokenizer("),
        ("model.keras", "--out must not be the folder of --teacher"),
    ):
        with pytest.raises(SystemExit):
            run("normalize_dates", "2", "--teacher", str(tmp_path / name))
        assert words in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


EXAMPLES = "classify_images classify_text compress language_model long_sequences recognize_speech summarize translate"


@pytest.mark.parametrize("name", EXAMPLES.split())
def test_bad_arguments(run, name, tmp_path, capsys):
    wanted = {"--steps": "must be a positive integer", "--seed": "must be an integer, 0 or more"}
    for option, value in (("--steps", "0"), ("--steps", "-3"), ("--seed", "-1"), ("--seed", "1.5")):
        with pytest.raises(SystemExit):
            run(name, "4", option, value)
        assert f"argument {option}: {wanted[option]}. Received: {value}" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--out must be a folder"):
        run(name, "40", "--out", str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("recognize_speech", ["--head", "ctc"], "--head ctc needs --task transcribe"),
        ("recognize_speech", ["--stream"], "--stream needs --task transcribe"),
        ("classify_images", ["--image-size", "64"], "--image-size needs --folder"),
        ("long_sequences", ["--task", "lists", "--batch-size", "0"], "--batch-size: must be a positive integer"),
    ],
)
def test_arguments_that_would_do_nothing(run, name, options, words, capsys):
    with pytest.raises(SystemExit):
        run(name, "4", *options)
    assert words in capsys.readouterr().err


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
