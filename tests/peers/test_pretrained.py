"""Checkpoints of `transformers`: outputs, generation and gradients of ours, and what it loads of what we write."""

import functools
import tempfile

import numpy as np
import pytest
from pretrained import ours
from pretrained.case import all_cases

from keras_attn import from_pretrained
from keras_attn.pretrained.families import family_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
theirs = pytest.importorskip("pretrained.theirs")

LENGTH = 8


@functools.lru_cache(maxsize=1)
def loaded(case):
    """`(theirs, ours, folder)`; all checks of a case share them."""
    model = theirs.model_of(case)
    folder = tempfile.TemporaryDirectory()
    model.save_pretrained(folder.name)
    return model, from_pretrained(folder.name, case.task), folder


def check_outputs(case, _):
    model, mine, _ = loaded(case)
    inputs, worst = theirs.inputs_of(case), 0.0
    for name, expected in theirs.outputs(model, inputs).items():
        found = mine(case.to_ours(inputs), training=False)
        found = found[name] if isinstance(found, dict) else found
        worst = max(worst, ours.difference(ours.real(found, inputs), ours.real(expected, inputs)))
    assert worst <= 1e-5
    return worst


def check_gradients(case, _):
    model, mine, stored = loaded(case)
    inputs = theirs.inputs_of(case)
    found = ours.loss_gradients(mine, case, inputs)
    parameters = theirs.parameters_by_name_in_file(model, stored.name)
    names = {name: parameters[x] for name, x in family_of(model.config.model_type).names(parameters).items()}
    expected = theirs.loss_gradient(model, inputs, [names[name] for name in found])
    assert len(found) >= 3
    largest = max(np.abs(x).max() for x in expected.values())
    for name, gradient in found.items():
        # The gradient of a bias of keys is zero but for rounding.
        np.testing.assert_allclose(gradient, expected[names[name]], rtol=1e-4, atol=4e-6 * largest, err_msg=name)
    return max(float(np.abs(x - expected[names[name]]).max()) for name, x in found.items()) / float(largest)


def check_written_back(case, folder):
    model, mine, _ = loaded(case)
    mine.save_pretrained(folder)
    architecture = getattr(transformers, case.written or case.architecture)
    again, info = architecture.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    # Poolers are not read, sinusoids are computed, masks of features are for training.
    unread = ("pooler.", "model.encoder.embed_positions.", "model.decoder.embed_positions.")
    unread += ("masked_spec_embed", "wav2vec2.masked_spec_embed")
    assert all(name.startswith(unread) for name in info["missing_keys"])
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    inputs, worst = theirs.inputs_of(case), 0.0
    for name, expected in theirs.outputs(model, inputs).items():
        found = theirs.outputs(again.eval(), inputs)[name]
        worst = max(worst, ours.difference(ours.real(found, inputs), ours.real(expected, inputs)))
    assert worst <= 1e-5
    return worst


def check_generated(case, _, num_beams):
    model, mine, _ = loaded(case)
    inputs = theirs.inputs_of(case)
    settings = {"eos_token_id": 1, "pad_token_id": 0, "max_new_tokens": LENGTH, "min_length": 0}
    expected = theirs.generated(model, inputs, num_beams=num_beams, **settings)
    prompts = inputs["input_ids"] if "input_ids" in inputs else next(iter(case.to_ours(inputs).values()))
    found = ours.generated(mine, prompts, num_beams, LENGTH, 1, getattr(model.config, "decoder_start_token_id", None))
    assert found == expected
    return "equal"


CHECKS = {
    "outputs": check_outputs,
    "gradients": check_gradients,
    "written back": check_written_back,
    "greedy": functools.partial(check_generated, num_beams=1),
    "beam 4": functools.partial(check_generated, num_beams=4),
}
# In the order of the cases, so that the checks of one share its models.
PAIRS = [(case, check) for case in all_cases() for check in CHECKS if case.has(check)]


@pytest.mark.parametrize(("case", "check"), PAIRS, ids=lambda x: getattr(x, "name", x))
def test_checkpoint(case, check, tmp_path, record_property):
    found = CHECKS[check](case, tmp_path)
    for name, value in (("case", case.name), ("check", check), ("difference", found)):
        record_property(name, value)
