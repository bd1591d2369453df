"""Layers that act in training alone: scheduled sampling and guided alignment."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import D, M, ids, lengths, normal

from keras_attn.layers import GuidedAlignment, ScheduledSampling


def tokens(rng, B, T, S):
    return {**ids(rng, B, T, S), "logits": normal(rng, B, T, M)}


def aligned(rng, B, T, S):
    scores, alignments = (rng.dirichlet(np.ones(S), (B, T)).astype("float32") for _ in range(2))
    return {"inputs": normal(rng, B, T, D), "scores": scores, "alignments": alignments, "inputs_mask": lengths(B, T)}


def unchanged(weights, inputs, **others):
    return inputs


LINEAR = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
CASES = [
    LayerCase(
        "scheduled_sampling",
        partial(ScheduledSampling, probability=LINEAR, seed=1),
        tokens,
        unchanged,
        bad=(
            ({"probability": 1.5}, "`probability` must be in"),
            ({"probability": "linear"}, "`probability` must be in"),
            ({"logits": np.ones((2, M), "float32")}, "`logits` shape"),
        ),
        exempt={"gradients": "the outputs are ids"},
    ),
    LayerCase(
        "guided_alignment",
        GuidedAlignment,
        aligned,
        unchanged,
        {"inputs": "inputs_mask"},
        bad=(
            ({"weight": -1.0}, "`weight` must"),
            ({"cost": "kl"}, "`cost` must be one of"),
            ({"alignments": np.ones((2, 5, 3), "float32")}, "`alignments` must have the shape of `scores`"),
            ({"inputs_mask": np.ones((2, 4), bool)}, "`inputs_mask` must"),
        ),
        exempt={"fully_masked": "inputs pass through unchanged, including padding"},
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


def sampled(layer, inputs, logits, jit_compile=None):
    call = tf.function(lambda: layer(inputs, logits, training=True), autograph=False, jit_compile=jit_compile)
    return np.asarray(call())


@pytest.mark.parametrize("jit_compile", [False, True])
def test_samples_follow_the_logits_of_the_token_before(jit_compile):
    inputs = np.zeros((4000, 3), "int32")
    logits = np.log(np.array([[0.0, 0.2, 0.8], [0.0, 0.7, 0.3], [0.0, 0.5, 0.5]]) + 1e-30).astype("float32")
    logits = np.broadcast_to(logits, (4000, 3, 3))
    found = sampled(ScheduledSampling(0.6, seed=1), inputs, logits, jit_compile)
    shares = np.stack([(found == token).mean(axis=0) for token in range(3)], axis=1)
    expected = [[1, 0, 0], [0.4, 0.12, 0.48], [0.4, 0.42, 0.18]]
    np.testing.assert_allclose(shares, expected, atol=0.03)


def test_a_schedule_follows_the_calls_in_training():
    layer = ScheduledSampling(LINEAR, seed=1)
    inputs, logits = np.zeros((2000, 2), "int32"), np.full((2000, 2, 2), [-1e9, 0.0], "float32")
    shares = []
    for _ in range(6):
        np.testing.assert_array_equal(layer(inputs, logits), inputs)
        shares.append(sampled(layer, inputs, logits)[:, 1].mean())
    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 0.75, 1, 1], atol=0.05)
    assert int(layer.calls) == 6


@pytest.mark.parametrize("cost", ["cross_entropy", "squared_error"])
def test_the_loss_is_a_mean_over_real_tokens(cost):
    x = aligned(np.random.default_rng(0), 2, 5, 7)
    costs = {
        "cross_entropy": -np.sum(x["alignments"] * np.log(x["scores"]), axis=-1),
        "squared_error": np.sum((x["alignments"] - x["scores"]) ** 2, axis=-1),
    }[cost]
    layer = GuidedAlignment(0.3, cost)
    for mask, expected in ((x["inputs_mask"], costs[x["inputs_mask"]]), (None, costs)):
        layer(**{**x, "inputs_mask": mask})
        (loss,) = layer.losses
        np.testing.assert_allclose(loss, 0.3 * expected.mean(), rtol=1e-5)
    layer(x["inputs"], x["scores"])
    assert layer.losses == []
    layer(**{**x, "inputs_mask": np.zeros((2, 5), bool)})
    assert float(layer.losses[0]) == 0
