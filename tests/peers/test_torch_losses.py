import numpy as np
import pytest
import tensorflow as tf

from keras_attn.training import MaskedCrossEntropy

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
