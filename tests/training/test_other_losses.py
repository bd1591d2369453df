"""Contrastive loss and R-Drop; tests/peers/test_torch_losses.py compares them with PyTorch."""

import json

import keras
import numpy as np
import pytest

from keras_attn.training import ContrastiveLoss, MaskedCrossEntropy, RDrop

RNG = np.random.default_rng(3)
PAIRS = RNG.standard_normal((7, 2, 5)).astype("float32")
LABELS = np.array([[3, 1, 6, 0], [2, 5, 0, 0], [6, 0, 0, 0]])
LOGITS = RNG.standard_normal((3, 4, 7)).astype("float32")


@pytest.mark.parametrize("loss", [ContrastiveLoss(0.2, True, reduction="sum"), RDrop(2.5, 0.1, -100, name="twice")])
def test_round_trip(loss):
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(loss))))
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()


def test_contrastive_depends_on_directions_alone_and_weights_rows():
    loss, weights = ContrastiveLoss(0.3), RNG.uniform(0.1, 2, 7)
    losses = np.asarray(ContrastiveLoss(0.3, reduction=None)(np.zeros(7), PAIRS * RNG.uniform(0.5, 3, (7, 2, 1))))
    np.testing.assert_allclose(losses, ContrastiveLoss(0.3, reduction=None)(np.zeros(7), PAIRS), rtol=1e-5)
    total, weight = loss.total(np.zeros(7), PAIRS, weights)
    np.testing.assert_allclose([total, weight], [(losses * weights).sum(), weights.sum()], rtol=1e-5)


def test_symmetric_contrastive_does_not_know_which_comes_first():
    loss = ContrastiveLoss(0.3, symmetric=True)
    np.testing.assert_allclose(loss(np.zeros(7), PAIRS), loss(np.zeros(7), PAIRS[:, ::-1]), rtol=1e-6)


def test_r_drop_of_equal_passes_is_cross_entropy():
    labels, logits = RDrop.repeat(LABELS, LOGITS)
    expected = MaskedCrossEntropy(0.1)(LABELS, LOGITS)
    np.testing.assert_allclose(RDrop(9.0, 0.1)(labels, logits), expected, rtol=1e-6)


def test_r_drop_without_weight_is_the_mean_of_both_passes():
    logits = np.concatenate([LOGITS, LOGITS[:, :, ::-1]], axis=1).reshape(6, 4, 7)
    mean = (MaskedCrossEntropy()(LABELS, LOGITS) + MaskedCrossEntropy()(LABELS, LOGITS[:, :, ::-1])) / 2
    np.testing.assert_allclose(RDrop(0.0)(RDrop.repeat(LABELS), logits), mean, rtol=1e-6)
    assert RDrop(1.0)(RDrop.repeat(LABELS), logits) > mean


def test_r_drop_of_a_part_of_the_rows_needs_no_other():
    logits = RNG.standard_normal((6, 4, 7)).astype("float32")
    labels, loss = RDrop.repeat(LABELS), RDrop(2.0)
    parts = [loss.total(labels[i : i + 2], logits[i : i + 2]) for i in (0, 2, 4)]
    np.testing.assert_allclose([sum(x) for x in zip(*parts, strict=True)], loss.total(labels, logits), rtol=1e-5)


def test_repeat_keeps_nests():
    inputs, labels, weights = RDrop.repeat({"ids": LABELS, "mask": None}, LABELS, keras.ops.ones(3))
    np.testing.assert_array_equal(inputs["ids"][0::2], inputs["ids"][1::2])
    assert inputs["mask"] is None
    assert labels.shape == (6, 4)
    assert weights.shape == (6,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ContrastiveLoss(0), "`temperature` must be a positive number. Received: temperature=0"),
        (
            lambda: ContrastiveLoss()(np.zeros(7), PAIRS[:, :1]),
            r"`y_pred` must have shape \(B, 2, D\). Received: y_pred.shape=\(7, 1, 5\)",
        ),
        (lambda: RDrop(-1), "`alpha` must not be negative. Received: alpha=-1"),
        (lambda: RDrop()(LABELS, LOGITS), "`y_pred` must have an even number of rows.* Received: 3 rows"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
