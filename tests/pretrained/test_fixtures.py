"""Committed checkpoints of `transformers` in ours, without PyTorch. `make_fixtures.py` wrote them."""

import functools

import keras
import numpy as np
import pytest
from pretrained import ours
from pretrained.case import FIXTURES, all_cases
from safetensors.numpy import load_file

from keras_attn import from_pretrained

CASES = {case.name: case for case in all_cases() if case.fixture}
FOLDERS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
GENERATING = [name for name in FOLDERS if CASES[name].generates and "generated" not in CASES[name].exempt]


@functools.lru_cache(maxsize=2)
def loaded(name):
    return from_pretrained(FIXTURES / name, CASES[name].task)


def expected(name, kind):
    found = load_file(FIXTURES / name / "expected.safetensors")
    return {key.partition("/")[2]: value for key, value in found.items() if key.startswith(f"{kind}/")}


def outputs(model, name):
    inputs = expected(name, "input")
    found = model(CASES[name].to_ours(inputs), training=False)
    wanted = expected(name, "output")
    found = found if isinstance(found, dict) else dict.fromkeys(wanted, found)
    return {key: (ours.real(found[key], inputs), ours.real(wanted[key], inputs)) for key in wanted}


def test_every_family_has_a_fixture():
    assert sorted(CASES) == FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_outputs(name):
    for found, wanted in outputs(loaded(name), name).values():
        assert ours.difference(found, wanted) <= 1e-5


@pytest.mark.parametrize("name", FOLDERS)
def test_written_back(name, tmp_path):
    loaded(name).save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    for variable, other in zip(loaded(name).weights, again.weights, strict=True):
        np.testing.assert_allclose(variable, other, rtol=1e-6, err_msg=variable.path)


# One model of each kind.
BEAMS = ("GPT2LMHeadModel", "T5ForConditionalGeneration", "WhisperForConditionalGeneration")


@pytest.mark.parametrize(("name", "num_beams"), [*((x, 1) for x in GENERATING), *((x, 4) for x in BEAMS)])
def test_generated(name, num_beams):
    model, inputs = loaded(name), expected(name, "input")
    prompts = inputs["input_ids"] if "input_ids" in inputs else next(iter(CASES[name].to_ours(inputs).values()))
    start_id = model.checkpoint.config.get("decoder_start_token_id")
    wanted = expected(name, "generated")[str(num_beams)]
    found = ours.generated(model, prompts, num_beams, wanted.shape[1], 1, start_id)
    assert found == [[x for x in row if x >= 0] for row in wanted.tolist()]


def test_keras_file_remembers_the_checkpoint(tmp_path):
    name = "BertForSequenceClassification"
    loaded(name).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    model.save_pretrained(tmp_path / "folder")
    for found, wanted in outputs(from_pretrained(tmp_path / "folder"), name).values():
        assert ours.difference(found, wanted) <= 1e-5


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "WhisperForConditionalGeneration"])
def test_all_layers_have_the_dtype(name):
    model = from_pretrained(FIXTURES / name, dtype="bfloat16")
    assert {x.dtype for x in model.weights} == {"bfloat16"}
