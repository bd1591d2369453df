"""The pointer-generator layer: the contract of layers, and what it adds to the loss."""

from functools import partial

import keras
import numpy as np
import pytest
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import D, lengths, normal
from scipy import special

from keras_attn.layers import PointerGenerator

V, E = 11, 4


def inputs(rng, B, T, S, size=V + E):
    """Tokens occur repeatedly in a source."""
    scores = special.softmax(normal(rng, B, T, S), axis=-1).astype("float32") if S else np.zeros((B, T, S), "float32")
    return {
        "inputs": normal(rng, B, T, D),
        "logits": normal(rng, B, T, V),
        "scores": scores,
        "source_ids": rng.integers(0, size, (B, S), dtype="int32"),
        "inputs_mask": lengths(B, T),
    }


def pointer_oracle(weights, inputs, logits, scores, source_ids, extended_size=0, **masks):
    kernel, bias = weights
    copied = scores * (1 - special.expit(inputs @ kernel + bias))
    found = np.zeros((*logits.shape[:2], logits.shape[2] + extended_size))
    found[..., : logits.shape[2]] = special.softmax(logits, axis=-1) * (1 - copied.sum(-1, keepdims=True))
    for b, s in np.ndindex(*source_ids.shape):
        found[b, :, int(source_ids[b, s])] += copied[b, :, s]
    return np.log(np.maximum(found, 1e-12))


CASES = [
    LayerCase(
        "pointer_generator",
        partial(PointerGenerator, extended_size=E, unknown_id=3, coverage_weight=0.5),
        inputs,
        partial(pointer_oracle, extended_size=E),
        {"inputs": "inputs_mask"},
        (
            ({"extended_size": -1}, "`extended_size` must be a non-negative integer"),
            ({"unknown_id": None}, "`unknown_id` must be given with `extended_size`"),
            ({"coverage_weight": -1}, "`coverage_weight` must not be negative"),
            ({"coverage_weight": "1"}, "`coverage_weight` must be a finite number"),
            ({"inputs": np.ones((2, D), "float32"), "inputs_mask": None}, "`inputs` must have rank 3"),
            ({"logits": np.ones((2, 4, V), "float32")}, "`logits` must have the batch and length"),
            ({"source_ids": np.ones((2, 3), "int32")}, "`source_ids` must have the shape"),
        ),
        {"fully_masked": "logits of padding are those of any other token; the mask is for the coverage loss"},
    ),
    LayerCase("pointer_of_one_vocabulary", PointerGenerator, partial(inputs, size=V), pointer_oracle),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_contract(check, case, tmp_path):
    run_check(check, case, tmp_path)


def confident_inputs(rng, B, T, S):
    """Gates of -20 to 20, and tokens that come in one way only."""
    arguments = inputs(rng, B, T, S, V)
    return arguments | {"inputs": 10 * arguments["inputs"], "source_ids": arguments["source_ids"] % 3}


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    confident = LayerCase("confident_pointer", PointerGenerator, confident_inputs, pointer_oracle)
    check_export([*CASES, confident], format_name, tmp_path)


def test_probabilities_sum_to_one():
    arguments = inputs(np.random.default_rng(0), 3, 5, 7)
    found = np.exp(PointerGenerator(E, unknown_id=0)(**arguments))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    # What is not in a source can only be generated.
    for row, source in zip(found, arguments["source_ids"], strict=True):
        absent = np.setdiff1d(np.arange(V, V + E), source)
        assert np.all(row[:, absent] <= 1e-11)


def test_ids_beyond_the_extended_vocabulary_are_left_to_the_lookup():
    ids = [[0, V - 1, V, V + E - 1, V + E, -1]]
    embedded = PointerGenerator(E, unknown_id=3).embedded_ids(np.array(ids), V)
    np.testing.assert_array_equal(embedded, [[0, V - 1, 3, 3, V + E, -1]])
    np.testing.assert_array_equal(PointerGenerator().embedded_ids(np.array(ids), V), ids)


def test_a_source_of_padding_is_not_copied():
    arguments = inputs(np.random.default_rng(0), 3, 5, 7)
    arguments["scores"][1] = 0
    found = PointerGenerator(E, unknown_id=0)(**arguments)
    expected = special.log_softmax(arguments["logits"][1], axis=-1)
    np.testing.assert_allclose(found[1, :, :V], expected, atol=1e-5)


def test_coverage_counts_what_is_attended_to_again():
    layer = PointerGenerator(coverage_weight=0.5)
    arguments = inputs(np.random.default_rng(0), 2, 5, 7, V)
    layer(**arguments)
    assert not layer.losses
    layer(**arguments, training=True)
    scores, mask = arguments["scores"].astype("float64"), arguments["inputs_mask"]
    costs = [np.minimum(scores[:, t], scores[:, :t].sum(axis=1)).sum(-1) for t in range(5)]
    expected = 0.5 * np.stack(costs, axis=1)[mask].mean()
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-5)


def test_large_logits_do_not_lose_the_copied_token():
    scores, logits = np.array([[[1.0]]], "float32"), np.array([[[1e4, -1e4]]], "float32")
    layer = PointerGenerator()
    found = keras.ops.convert_to_numpy(layer(np.zeros((1, 1, 2), "float32"), logits, scores, np.array([[1]])))
    np.testing.assert_allclose(found, np.log(0.5), atol=1e-6)


@pytest.mark.parametrize("bias", [-16.0, -8.0, 8.0, 16.0])
def test_small_shares_keep_their_digits(bias):
    arguments = {name: x for name, x in inputs(np.random.default_rng(0), 3, 5, 7, V).items() if name != "inputs_mask"}
    layer = PointerGenerator()
    layer(**arguments)
    layer.gate.kernel.assign(np.zeros(layer.gate.kernel.shape))
    layer.gate.bias.assign([bias])
    # Tokens that are generated alone, or copied alone.
    arguments["logits"][..., 0], arguments["source_ids"][:] = -60, 0
    generated = special.log_softmax(arguments["logits"].astype("float64"), axis=-1) + special.log_expit(bias)
    found = np.asarray(layer(**arguments))
    np.testing.assert_allclose(found[..., 1:], generated[..., 1:], atol=1e-5)
    np.testing.assert_allclose(found[..., 0], special.log_expit(-bias), atol=1e-5)
