import warnings

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

from keras_attn.ops import masked_softmax

SHAPE = (2, 3, 5, 7)


def example():
    rng = np.random.default_rng(0)
    mask = rng.random(SHAPE) < 0.5
    mask[0, 1, 2] = False
    return rng.normal(size=SHAPE).astype("float32"), mask


def test_equals_oracle():
    logits, mask = example()
    np.testing.assert_allclose(masked_softmax(logits, mask), oracle.masked_softmax(logits, mask), atol=1e-6)
    np.testing.assert_allclose(masked_softmax(logits), oracle.masked_softmax(logits), atol=1e-6)


def test_mask_broadcasts():
    logits, mask = example()
    for part in (mask[:, :1], mask[:, :, :1], mask[:1]):
        np.testing.assert_allclose(masked_softmax(logits, part), oracle.masked_softmax(logits, part), atol=1e-6)


def test_other_axis():
    logits, mask = example()
    expected = np.swapaxes(oracle.masked_softmax(np.swapaxes(logits, 1, -1), np.swapaxes(mask, 1, -1)), 1, -1)
    np.testing.assert_allclose(masked_softmax(logits, mask, axis=1), expected, atol=1e-6)


def test_masked_entries_are_exactly_zero_and_so_are_their_gradients():
    logits, mask = example()
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        weights = masked_softmax(x, mask)
        loss = tf.reduce_sum(weights * np.random.default_rng(1).normal(size=SHAPE).astype("float32"))
    gradient = np.asarray(tape.gradient(loss, x))
    for values in (np.asarray(weights), gradient):
        assert np.all(values[~mask] == 0)
        assert np.all(np.isfinite(values))
        assert np.any(values[mask])


@pytest.mark.parametrize("value", [1e30, -1e30, np.inf])
def test_masked_logits_do_not_matter(value):
    logits, mask = example()
    expected = masked_softmax(logits, mask)
    np.testing.assert_array_equal(masked_softmax(np.where(mask, logits, np.float32(value)), mask), expected)


def test_large_logits():
    logits, mask = example()
    weights = masked_softmax(logits * 1e30, mask)
    np.testing.assert_allclose(weights, oracle.masked_softmax(logits.astype("float64") * 1e30, mask), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "computed"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_computes_in_float32_or_wider(given, computed):
    logits, mask = example()
    logits = keras.ops.cast(logits, given)
    weights = masked_softmax(logits, mask)
    assert weights.dtype == computed
    expected = oracle.masked_softmax(np.asarray(keras.ops.cast(logits, "float64")), mask)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_a_lone_entry_has_all_the_weight_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = masked_softmax(np.ones((2, 3, 1), "float32"), np.array([[[True], [False], [True]]]))
    np.testing.assert_array_equal(np.squeeze(weights, -1), [[1, 0, 1]] * 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_least_logits_are_above_masked_ones(dtype):
    least = np.finfo(dtype).min
    logits = np.array([[least * 0.9, least * 0.99, -least, 0.0]], dtype)
    np.testing.assert_array_equal(masked_softmax(logits, np.array([[True, True, False, False]])), [[1, 0, 0, 0]])
    np.testing.assert_array_equal(masked_softmax(logits, np.zeros((1, 4), bool)), np.zeros((1, 4)))


def test_a_lone_key_has_a_gradient_of_zero():
    logits = tf.constant([[3.0], [np.inf]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        weights = masked_softmax(logits)
    np.testing.assert_array_equal(weights, [[1.0], [1.0]])
    np.testing.assert_array_equal(tape.gradient(weights, logits, tf.constant([[2.0], [2.0]])), [[0.0], [0.0]])
