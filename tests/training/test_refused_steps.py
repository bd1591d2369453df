"""A step that is refused leaves no trace: what was before it, and what comes after, is that of a run without it."""

import json

import keras
import numpy as np
import pytest
import refused_steps
import tensorflow as tf
from refused_steps import BAD_STEP, data, traces, trainer, variables
from training_processes import run_script

from keras_attn.training import Checkpoints, Trainer


@pytest.mark.parametrize("kind", refused_steps.KINDS)
def test_no_variable_changes(kind):
    assert traces(kind) == []


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("state", {"optimizer": "averages"}),
        ("gradient", {"optimizer": "sgd", "jit_compile": True}),
        ("gradient", {"dtype": "mixed_bfloat16"}),
        ("loss", {"dtype": "mixed_float16"}),
    ],
    ids=["averages", "jit", "bfloat16", "float16"],
)
def test_under_other_settings(kind, settings):
    assert traces(kind, **settings) == []


@pytest.mark.parametrize("kind", ["gradient", "state"])
def test_all_batches_of_an_update_count_or_none(kind):
    """The row 0 is in the first of two batches, the row 8 in the second."""
    assert traces(kind, rows=(0, 8), accumulation_steps=2) == []


def test_on_several_replicas():
    result = run_script("import refused_steps; refused_steps.main(2)")
    found = json.loads(result.stdout.splitlines()[-1])
    assert found == {"gradient": [], "state": []}, result.stderr


def test_no_checkpoint_holds_a_refused_step(tmp_path):
    def attempt(kind):
        one = trainer(checkpoints=Checkpoints(tmp_path, every=1))
        one.fit(data(kind), BAD_STEP + 1)
        return one

    for _ in range(2):
        with pytest.raises(FloatingPointError, match="step 3 is refused"):
            attempt("gradient")
        assert Checkpoints(tmp_path).steps() == [1, 2, 3]
    steps, _ = refused_steps.undisturbed()
    assert refused_steps.differences(variables(attempt(None)), steps[BAD_STEP]) == []


@pytest.mark.parametrize(
    ("rate", "constraint", "message"),
    [
        (1e38, None, "step 1 made '.*kernel' infinite or NaN"),
        (0.1, lambda w: w * np.inf, "step 1 made '.*kernel' infinite or NaN"),
        (np.nan, None, "step 0 is refused: the learning rate is not finite"),
    ],
    ids=["rate", "constraint", "no rate"],
)
def test_weights_that_are_not_finite_are_neither_returned_nor_saved(rate, constraint, message, tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_constraint=constraint)(inputs))
    one = tf.data.Dataset.from_tensors((np.full((4, 3), 1e3, "float32"), np.ones((4, 1), "float32")))
    with pytest.raises(FloatingPointError, match=message):
        Trainer(model, keras.optimizers.SGD(rate), "mse", checkpoints=Checkpoints(tmp_path)).fit(one, 1)
    assert Checkpoints(tmp_path).steps() == []


def test_a_loss_scale_that_no_gradient_fits_is_refused():
    one = trainer(dtype="mixed_float16")
    one.optimizer.dynamic_scale.assign(2.0**-23)
    sign = data().map(lambda x, y: ({**x, "sign": 7 + 0 * x["sign"]}, y))
    with pytest.raises(FloatingPointError, match="step 2 is refused: the gradients of all steps before it"):
        one.fit(sign, 4)
    assert all(np.isfinite(w).all() for w in one.model.get_weights())


def test_weights_of_rows_that_are_no_numbers_are_no_padding():
    x, y, weights = np.ones((4, 3), "float32"), np.ones((4, 1), "float32"), np.full(4, np.nan, "float32")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    with pytest.raises(FloatingPointError, match="the loss of step 0 is not finite"):
        Trainer(model, keras.optimizers.SGD(0.1), "mse").fit(tf.data.Dataset.from_tensors((x, y, weights)), 1)
