import numpy as np
import pytest
import tensorflow as tf
from samples import lengths, normal

from keras_attn.ops import cache, scan


@pytest.mark.parametrize("policy", ["select", "slice"])
def test_scan_under_each_policy(policy):
    rng = np.random.default_rng(0)
    x, mask, start = normal(rng, 5, 3, 2), lengths(3, 5).T, normal(rng, 3, 2)
    graph = tf.function(
        lambda x, mask, start: scan(lambda x, s: ({"s": 2 * x + s, "x": x[:, 0]}, s + x), x, start, mask),
        input_signature=[
            tf.TensorSpec((None, None, 2)),
            tf.TensorSpec((None, None), tf.bool),
            tf.TensorSpec((None, 2)),
        ],
        autograph=False,
    )
    for steps in (1, 5):
        with cache.writing(policy):
            outputs, state = graph(x[:steps], mask[:steps], start)
        total = start.copy()
        for t in range(steps):
            np.testing.assert_allclose(outputs["s"][t], (2 * x[t] + total) * mask[t][:, None], atol=1e-6)
            np.testing.assert_allclose(outputs["x"][t], x[t, :, 0] * mask[t], atol=1e-6)
            total += x[t] * mask[t][:, None]
        np.testing.assert_allclose(state, total, atol=1e-6)
