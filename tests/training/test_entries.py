"""The package's own losses and metrics: shapes of labels and weights, Keras masks, and labels that are no numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.argument_checks import check_vocabulary
from keras_attn.training import ContrastiveLoss, MaskedAccuracy, MaskedCrossEntropy, Perplexity, RDrop

RNG = np.random.default_rng(4)
LABELS, LOGITS = RNG.integers(0, 4, (4, 3)), RNG.standard_normal((4, 3, 4)).astype("float32")
WEIGHTS = RNG.uniform(0.1, 2, (4, 3)).astype("float32")
MASK = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], "bool")
PAIRS = RNG.standard_normal((4, 2, 5)).astype("float32")
PROJECTION = {"kernel": RNG.standard_normal((5, 4)).astype("float32"), "bias": None}


def masked(x, mask):
    x = tf.constant(x)
    x._keras_mask = tf.constant(mask)
    return x


def of_hidden_states(labels, hidden, weights=None):
    return np.divide(*MaskedCrossEntropy(ignore_id=None).linear_total(labels, hidden, PROJECTION, weights))


HIDDEN = RNG.standard_normal((4, 3, 5)).astype("float32")
# Each with outputs for labels `(B, T)`; a metric is made anew for each call.
ON_TOKENS = {
    "cross entropy": (lambda *args: MaskedCrossEntropy(0.1, ignore_id=None)(*args), LOGITS),
    "sum": (lambda *args: MaskedCrossEntropy(ignore_id=None, reduction="sum")(*args), LOGITS),
    "of hidden states": (of_hidden_states, HIDDEN),
    "R-Drop": (lambda *args: RDrop(2.0, ignore_id=None)(*args), LOGITS),
    "accuracy": (lambda *args: MaskedAccuracy(ignore_id=None)(*args), LOGITS),
    "perplexity": (lambda *args: Perplexity(ignore_id=None)(*args), LOGITS),
}


@pytest.mark.parametrize("name", ON_TOKENS)
def test_shapes_and_masks_of_tokens(name):
    call, outputs = ON_TOKENS[name]
    expected = call(LABELS, outputs, WEIGHTS)
    for labels in (LABELS, LABELS[..., None]):
        for weights in (WEIGHTS, WEIGHTS[..., None]):
            np.testing.assert_allclose(call(labels, outputs, weights), expected, rtol=1e-6)
    rows = call(LABELS, outputs, np.repeat(WEIGHTS[:, :1], 3, axis=1))
    for weights in (WEIGHTS[:, 0], WEIGHTS[:, :1], WEIGHTS[:, :1, None]):
        np.testing.assert_allclose(call(LABELS, outputs, weights), rows, rtol=1e-6)
    hidden = call(LABELS, masked(outputs, MASK), WEIGHTS)
    np.testing.assert_allclose(hidden, call(LABELS, outputs, WEIGHTS * MASK), rtol=1e-6)
    assert abs(hidden - expected) > 1e-3
    np.testing.assert_allclose(call(LABELS, masked(outputs, MASK)), call(LABELS, outputs, MASK * 1.0), rtol=1e-6)
    np.testing.assert_allclose(
        call(LABELS, masked(outputs, MASK[:, 0])), call(LABELS, outputs, MASK[:, 0] * 1.0), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["cross entropy", "R-Drop", "accuracy", "perplexity"])
def test_shapes_of_rows(name):
    call, labels, logits, weights = ON_TOKENS[name][0], LABELS[:, 0], LOGITS[:, 0], WEIGHTS[:, 0]
    for y in (labels, labels[:, None]):
        np.testing.assert_allclose(call(y, logits), call(labels, logits), rtol=1e-6)
        for w in (weights, weights[:, None]):
            np.testing.assert_allclose(call(y, logits, w), call(labels, logits, weights), rtol=1e-6)


def test_contrastive_loss_weighs_and_masks_rows():
    loss, weights = ContrastiveLoss(0.3), WEIGHTS[:, 0]
    expected = loss(np.zeros(4), PAIRS, weights)
    for labels in (np.zeros((4, 1)), np.zeros((4, 2, 1))):
        np.testing.assert_allclose(loss(labels, PAIRS, weights[:, None]), expected, rtol=1e-6)
    shown = np.array([True, False, True, True])
    np.testing.assert_allclose(loss(None, masked(PAIRS, shown)), loss(None, PAIRS, shown * 1.0), rtol=1e-6)


def test_accuracy_of_batches_of_several_lengths_is_the_mean_over_tokens():
    metric = MaskedAccuracy(ignore_id=None)
    metric.update_state(LABELS, LOGITS)
    metric.update_state(LABELS[:2, :1], LOGITS[:2, :1])
    hits = LOGITS.argmax(-1) == LABELS
    assert float(metric.result()) == pytest.approx((hits.sum() + hits[:2, :1].sum()) / 14)


@pytest.mark.parametrize("name", ["cross entropy", "of hidden states", "R-Drop", "perplexity"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_label_that_is_no_class_is_not_trained_on(name, jit_compile):
    call, outputs = ON_TOKENS[name]
    call = tf.function(
        (lambda *args: MaskedCrossEntropy(ignore_id=None).linear_total(args[0], args[1], PROJECTION, *args[2:])[0])
        if name == "of hidden states"
        else call,
        jit_compile=jit_compile,
    )
    weights = WEIGHTS * MASK
    if name == "perplexity":
        # A metric makes its variables before a graph.
        metric = Perplexity(ignore_id=None)
        call = lambda *args: metric.reset_state() or metric(*args)  # noqa: E731
    for bad in (np.nan, 4.0, -1.0):
        labels = np.where(MASK, LABELS, bad).astype("float32")
        np.testing.assert_allclose(call(labels, outputs, weights), call(LABELS, outputs, weights), rtol=1e-5)
        assert np.isnan(call(labels, outputs, WEIGHTS))


def test_gradients_pass_by_what_does_not_count():
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        hidden = tf.identity(logits)
        hidden._keras_mask = tf.constant(MASK)
        loss = MaskedCrossEntropy(ignore_id=None)(np.where(MASK, LABELS, np.nan), hidden)
    gradient = np.asarray(tape.gradient(loss, logits))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).sum(-1) > 0).tolist() == MASK.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MaskedCrossEntropy()(LABELS[:, 0], LOGITS), r"`y_true` must hold one id .*\(4, 3, 4\)"),
        (lambda: MaskedAccuracy()(LOGITS, LOGITS), r"`y_true` must hold one id .*y_true.shape=\(4, 3, 4\)"),
        (lambda: MaskedCrossEntropy()(LABELS, LOGITS, WEIGHTS[:, :2]), r"`sample_weight` must have .*shape \(4, 2\)"),
        (lambda: Perplexity()(LABELS, masked(LOGITS, MASK[:, :2])), r"`mask` must have .*shape \(4, 2\)"),
        (lambda: check_vocabulary(4, ids=np.array([1, np.nan])), r"`ids` must hold ids .*Received: \[nan\]"),
        (lambda: check_vocabulary(4, ids=np.array([1, 2.5])), r"`ids` must hold ids .*Received: \[2.5\]"),
    ],
)
def test_bad_shapes_and_ids(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_in_evaluate():
    embedding = keras.layers.Embedding(9, 4, mask_zero=True, embeddings_initializer=keras.initializers.RandomNormal())
    model = keras.Sequential([keras.Input((3,), dtype="int32"), embedding, keras.layers.Dense(4)])
    ids, logs = np.where(MASK, 5, 0), []
    for loss, metric in (
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), keras.metrics.SparseCategoricalAccuracy()),
        (MaskedCrossEntropy(ignore_id=None), MaskedAccuracy(ignore_id=None)),
    ):
        model.compile(loss=loss, metrics=[metric], run_eagerly=True)
        logs.append(model.evaluate(ids, LABELS, verbose=0))
    np.testing.assert_allclose(*logs, rtol=1e-6)
