import numpy as np
import pytest
import tensorflow as tf

from keras_attn.training import ContrastiveLoss, MaskedCrossEntropy, RDrop

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")

B, T, V = 3, 5, 23
RNG = np.random.default_rng(3)
LABELS, REAL = RNG.integers(1, V, (B, T)), RNG.random((B, T)) < 0.6
LOGITS = (3 * RNG.standard_normal((B, T, V))).astype("float32")


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("ignore_id", [0, 5, -100])
@pytest.mark.parametrize(
    ("reduction", "torch_reduction"), [("sum_over_batch_size", "mean"), ("sum", "sum"), (None, "none")]
)
def test_cross_entropy_and_its_gradient(label_smoothing, ignore_id, reduction, torch_reduction):
    labels = np.where(REAL, LABELS, ignore_id)
    x = torch.tensor(LOGITS, requires_grad=True)
    criterion = torch.nn.CrossEntropyLoss(
        label_smoothing=label_smoothing, ignore_index=ignore_id, reduction=torch_reduction
    )
    expected = criterion(x.reshape(-1, V), torch.tensor(labels).reshape(-1))
    expected.sum().backward()

    y = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(y)
        loss = MaskedCrossEntropy(label_smoothing, ignore_id, reduction=reduction)(labels, y)
    np.testing.assert_allclose(np.ravel(loss), np.ravel(expected.detach()), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, y), x.grad, atol=1e-5)


def test_contrastive():
    pairs = RNG.standard_normal((7, 2, 5)).astype("float32")
    for symmetric in (False, True):
        x, y = torch.tensor(pairs, requires_grad=True), tf.constant(pairs)
        a, b = torch.nn.functional.normalize(x, dim=-1).unbind(1)
        logits, places = a @ b.T / 0.07, torch.arange(7)
        expected = torch.nn.functional.cross_entropy(logits, places)
        if symmetric:
            expected = (expected + torch.nn.functional.cross_entropy(logits.T, places)) / 2
        expected.backward()
        with tf.GradientTape() as tape:
            tape.watch(y)
            loss = ContrastiveLoss(0.07, symmetric)(np.zeros(7), y)
        np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
        np.testing.assert_allclose(tape.gradient(loss, y), x.grad, atol=1e-5)


def test_r_drop():
    functional = torch.nn.functional
    labels = np.where(REAL, LABELS, 0)
    passes = (2 * RNG.standard_normal((2, B, T, V))).astype("float32")
    x = torch.tensor(passes, requires_grad=True)
    first, second = (functional.log_softmax(logits, -1) for logits in x)
    entropy = sum(
        functional.cross_entropy(logits.reshape(-1, V), torch.tensor(labels).reshape(-1), ignore_index=0)
        for logits in x
    )
    divergence = [
        functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)[torch.tensor(labels != 0)].mean()
        for p, q in ((first, second), (second, first))
    ]
    expected = entropy / 2 + 3.0 * sum(divergence) / 2
    expected.backward()

    y = tf.constant(passes)
    with tf.GradientTape() as tape:
        tape.watch(y)
        # (2, B, ...) to rows that stand beside their twins.
        rows = tf.reshape(tf.experimental.numpy.swapaxes(y, 0, 1), (2 * B, T, V))
        loss = RDrop(alpha=3.0)(RDrop.repeat(labels), rows)
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, y), x.grad, atol=1e-5)
