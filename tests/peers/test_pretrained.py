"""Checkpoints of `transformers`: outputs, generation and gradients of ours, and what it loads of what we write."""

import functools
import tempfile

import numpy as np
import pytest
from pretrained import ours
from pretrained.case import all_cases

from keras_attn import from_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
theirs = pytest.importorskip("pretrained.theirs")

CASES = all_cases()
GENERATING = [case for case in CASES if case.generates]
LENGTH = 8


@functools.lru_cache(maxsize=2)
def loaded(case):
    """`(theirs, ours, folder)`; all checks of a case share them."""
    model = theirs.model_of(case)
    folder = tempfile.TemporaryDirectory()
    model.save_pretrained(folder.name)
    return model, from_pretrained(folder.name, case.task), folder


@pytest.fixture(params=CASES, ids=lambda case: case.name, scope="module")
def case(request):
    return request.param


def skip_exempt(case, check):
    if check in case.exempt:
        pytest.skip(case.exempt[check])


def test_outputs(case):
    model, mine, _ = loaded(case)
    inputs = theirs.inputs_of(case)
    for name, expected in theirs.outputs(model, inputs).items():
        found = mine(case.to_ours(inputs), training=False)
        found = found[name] if isinstance(found, dict) else found
        assert ours.difference(ours.real(found, inputs), ours.real(expected, inputs)) <= 1e-5, name


def test_gradients(case):
    skip_exempt(case, "gradients")
    model, mine, folder = loaded(case)
    inputs = theirs.inputs_of(case)
    found, family = ours.loss_gradients(mine, case, inputs)
    parameters = theirs.parameters_by_name_in_file(model, folder.name)
    names = {name: parameters[stored] for name, stored in family.names(parameters).items()}
    expected = theirs.loss_gradient(model, inputs, [names[name] for name in found])
    assert len(found) >= 3
    largest = max(np.abs(x).max() for x in expected.values())
    for name, gradient in found.items():
        # The gradient of a bias of keys is zero but for rounding.
        np.testing.assert_allclose(gradient, expected[names[name]], rtol=1e-4, atol=2e-6 * largest, err_msg=name)


def test_written_back(case, tmp_path):
    skip_exempt(case, "written back")
    model, mine, _ = loaded(case)
    mine.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    # Poolers are not read, sinusoids are computed, masks of features are for training.
    unread = ("pooler.", "model.encoder.embed_positions.", "model.decoder.embed_positions.")
    unread += ("masked_spec_embed", "wav2vec2.masked_spec_embed")
    assert all(name.startswith(unread) for name in info["missing_keys"])
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    inputs = theirs.inputs_of(case)
    for name, expected in theirs.outputs(model, inputs).items():
        found = theirs.outputs(again.eval(), inputs)[name]
        assert ours.difference(ours.real(found, inputs), ours.real(expected, inputs)) <= 1e-5


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("case", GENERATING, ids=lambda case: case.name)
def test_generated(case, num_beams):
    skip_exempt(case, "generated")
    model, mine, _ = loaded(case)
    inputs = theirs.inputs_of(case)
    settings = {"eos_token_id": 1, "pad_token_id": 0, "max_new_tokens": LENGTH, "min_length": 0}
    expected = theirs.generated(model, inputs, num_beams=num_beams, **settings)
    prompts = inputs["input_ids"] if "input_ids" in inputs else next(iter(case.to_ours(inputs).values()))
    found = ours.generated(mine, prompts, num_beams, LENGTH, 1, getattr(model.config, "decoder_start_token_id", None))
    assert found == expected
