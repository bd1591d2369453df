import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.training import MaskedCrossEntropy

B, T, V = 3, 5, 7
LABELS = np.array([[3, 1, 6, 0, 0], [2, 5, 4, 1, 3], [6, 0, 0, 0, 0]])
WEIGHTS = np.random.default_rng(5).uniform(0.1, 2, (B, T))


@pytest.fixture
def logits():
    return (3 * np.random.default_rng(3).standard_normal((B, T, V))).astype("float32")


def token_losses(labels, logits, label_smoothing=0.0, ignore_id=0):
    """The definition, with the smoothed target distribution written out, in float64."""
    logits = logits.astype("float64")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    vocabulary = logits.shape[-1]
    target = (1 - label_smoothing) * np.eye(vocabulary)[labels % vocabulary] + label_smoothing / vocabulary
    return -(target * log_p).sum(-1) * (labels != ignore_id)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("ignore_id", [0, 3, -100, 99, None])
def test_each_reduction(logits, label_smoothing, ignore_id):
    labels = np.where(LABELS == 3, ignore_id, LABELS) if ignore_id in (-100, 99) else LABELS
    expected = token_losses(labels, logits, label_smoothing, ignore_id)
    real = np.ones_like(labels) if ignore_id is None else labels != ignore_id
    results = {
        "sum_over_batch_size": expected.sum() / real.sum(),
        "sum": expected.sum(),
        None: expected,
        "none": expected,
    }
    for reduction, result in results.items():
        loss = MaskedCrossEntropy(label_smoothing, ignore_id, reduction=reduction)(labels, logits)
        assert loss.dtype == "float32"
        np.testing.assert_allclose(loss, result, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_padding_changes_nothing(logits, reduction):
    loss = MaskedCrossEntropy(0.1, reduction=reduction)
    padded = np.pad(logits, ((0, 2), (0, 4), (0, 0)), constant_values=11.0)
    expected = loss(LABELS, logits)
    np.testing.assert_allclose(loss(np.pad(LABELS, ((0, 2), (0, 4))), padded), expected, rtol=1e-6)


@pytest.mark.parametrize("ignore_id", [0, -100])
def test_ignored_tokens_have_no_gradient_and_others_the_softmax_minus_target(logits, ignore_id):
    labels = np.where(LABELS == 0, ignore_id, LABELS)
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = MaskedCrossEntropy(0.1, ignore_id)(labels, x)
    gradient = tape.gradient(loss, x).numpy()
    real = labels != ignore_id
    p = np.exp(logits.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    expected = (p - 0.9 * np.eye(V)[LABELS] - 0.1 / V) / real.sum()
    np.testing.assert_array_equal(gradient[~real], 0)
    np.testing.assert_allclose(gradient[real], expected[real], atol=1e-6)


def test_a_batch_of_padding_gives_zero(logits):
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = MaskedCrossEntropy(0.1)(np.zeros((B, T), int), x)
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, x), np.zeros_like(logits))


@pytest.mark.parametrize("shape", [(B, T), (B, 1), (1, T), (B,)])
def test_sample_weight(logits, shape):
    weights = WEIGHTS[: shape[0], : shape[-1]] if len(shape) == 2 else WEIGHTS[:, 0]
    column = weights[:, None] if len(shape) == 1 else weights
    losses, real = token_losses(LABELS, logits, 0.1), LABELS != 0
    results = {
        "sum_over_batch_size": (losses * column).sum() / (real * column).sum(),
        "sum": (losses * column).sum(),
        None: losses * column,
    }
    for reduction, result in results.items():
        loss = MaskedCrossEntropy(0.1, reduction=reduction)(LABELS, logits, weights)
        np.testing.assert_allclose(loss, result, rtol=1e-5)


def test_weights_of_zero_give_zero(logits):
    assert MaskedCrossEntropy()(LABELS, logits, np.zeros((B, T))) == 0


def test_large_and_half_precision_logits():
    logits = np.array([[[1e4, -1e4, 0.0], [-6e4, 6e4, 0.0]]], "float16")
    for dtype in ("float16", "float32"):
        loss = MaskedCrossEntropy(reduction=None)(np.array([[1, 1]]), logits.astype(dtype))
        np.testing.assert_allclose(loss, [[2e4, 0]], rtol=1e-3)


def test_labels_of_any_integer_or_float_dtype(logits):
    expected = MaskedCrossEntropy()(LABELS, logits)
    for dtype in ("uint8", "int64", "float32"):
        np.testing.assert_array_equal(MaskedCrossEntropy()(LABELS.astype(dtype), logits), expected)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_label_smoothing_must_be_a_share(value):
    with pytest.raises(ValueError, match=rf"`label_smoothing` must be in \[0, 1\). Received: label_smoothing={value}"):
        MaskedCrossEntropy(value)


def test_round_trip():
    loss = MaskedCrossEntropy(0.2, ignore_id=-100, reduction="sum", name="nll")
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    copy = keras.saving.deserialize_keras_object(written)
    assert copy.get_config() == loss.get_config()
    assert (copy.label_smoothing, copy.ignore_id, copy.reduction, copy.name) == (0.2, -100, "sum", "nll")


def test_totals_of_parts_add_up_to_that_of_the_whole(logits):
    """Means of parts with unequal numbers of tokens would not."""
    loss = MaskedCrossEntropy(0.1)
    total, weight = loss.total(LABELS, logits, WEIGHTS)
    np.testing.assert_allclose(total / weight, loss(LABELS, logits, WEIGHTS), rtol=1e-6)
    parts = [loss.total(LABELS[i : i + 1], logits[i : i + 1], WEIGHTS[i : i + 1]) for i in range(B)]
    np.testing.assert_allclose([sum(x) for x in zip(*parts, strict=True)], [total, weight], rtol=1e-6)
    assert float(weight) == pytest.approx((WEIGHTS * (LABELS != 0)).sum(), rel=1e-6)


@pytest.mark.parametrize("shape", [None, (B, T), (B, 1), (1, T), (B,)])
def test_linear_total_is_total_of_the_logits(shape):
    rng = np.random.default_rng(7)
    hidden, table = rng.standard_normal((B, T, 2)).astype("float32"), rng.standard_normal((V, 2)).astype("float32")
    weights = None if shape is None else rng.uniform(0.1, 2, shape)
    loss = MaskedCrossEntropy(0.1, ignore_id=-100)
    labels = np.where(LABELS == 0, -100, LABELS)
    projection = {"kernel": table, "bias": None, "transpose_kernel": True}
    fused, whole = loss.linear_total(labels, hidden, projection, weights), loss.total(labels, hidden @ table.T, weights)
    np.testing.assert_allclose(fused, whole, rtol=1e-5)


def test_classes_of_rows(logits):
    rows, labels, weights = logits[:, 0], LABELS[:, 0], WEIGHTS[:, 0]
    expected = token_losses(labels, rows, 0.1, None)
    total, weight = MaskedCrossEntropy(0.1, ignore_id=None).total(labels, rows, weights)
    np.testing.assert_allclose([total, weight], [(expected * weights).sum(), weights.sum()], rtol=1e-5)
