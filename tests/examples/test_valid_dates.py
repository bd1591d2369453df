"""A date model that has learned nothing writes dates all the same, in Keras and in every artefact."""

import datetime
import itertools
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("babel", reason="the date corpus is made from the CLDR data in babel")

from keras_attn.export import export
from keras_attn.generation import BeamSearch, GenerationConfig, Sampling, TokenAutomaton
from keras_attn.text import CharacterTokenizer

DIGITS = "0123456789-"


@pytest.fixture(scope="module")
def demo():
    """The examples, which import each other as scripts do."""
    folder = str(Path(__file__).parents[2] / "examples")
    sys.path.insert(0, folder)
    try:
        import count_invalid_dates
        import normalize_dates
    finally:
        sys.path.remove(folder)
    return normalize_dates, count_invalid_dates


@pytest.fixture(scope="module")
def model(demo):
    keras.utils.set_random_seed(3)
    return demo[0].build_model(CharacterTokenizer("abc " + DIGITS + "日é"))


@pytest.fixture(scope="module")
def texts(demo):
    return demo[1].garbage(40, "abc " + DIGITS + "日é", seed=5)


def test_the_expression_is_the_calendar(demo):
    automaton = TokenAutomaton.from_regex(demo[0].ISO_DATE, [*DIGITS])
    ids = {character: i for i, character in enumerate(DIGITS)}
    for year, month, day in itertools.product(range(1890, 2110), range(14), range(33)):
        try:
            wanted = 1900 <= datetime.date(year, month, day).year < 2100
        except ValueError:
            wanted = False
        assert automaton.accepts([ids[c] for c in f"{year:04}-{month:02}-{day:02}"]) == wanted, (year, month, day)
    assert automaton.distances[0] == 10


def test_the_judge(demo):
    wrong = ["", "2019-02-29", "2019-13-01", "20190301", "2019-W01-1", "2019-1-1", "2019-01-011", "201-01-011"]
    assert demo[1].invalid(["2020-02-29", *wrong, "1999-12-31"]) == wrong


@pytest.mark.parametrize("strategy", [None, Sampling(), BeamSearch(3)], ids=str)
def test_an_untrained_model(demo, model, texts, strategy):
    settings = model.generation_config
    config = GenerationConfig(settings.max_length, processors=settings.processors, strategy=strategy)
    outputs = model.generate(texts, config=config)
    assert demo[1].invalid(outputs) == []
    free = GenerationConfig(settings.max_length, strategy=strategy)
    assert len(demo[1].invalid(model.generate(texts, config=free))) > len(texts) // 2


def test_the_artefacts(model, texts, tmp_path):
    formats = ["saved_model", "tflite", "onnx"]
    report = export(model, tmp_path, formats, tasks=["generate"], samples=texts)
    assert report.ok
    assert {row["format"] for row in report.rows} == set(formats)


def test_the_count(demo, model, tmp_path, capsys):
    path = tmp_path / "model.keras"
    model.save(path)
    assert demo[1].main(["--model", str(path), "--count", "50"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("0 invalid of 50 outputs") == 2
    with pytest.raises(SystemExit):
        demo[1].main(["--model", str(tmp_path / "none.keras")])


def test_a_saved_model_keeps_the_constraint(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert loaded.generation_config == model.generation_config
    source = np.array([[5, 6, 7, 8]])
    np.testing.assert_array_equal(loaded.generate(source), model.generate(source))
