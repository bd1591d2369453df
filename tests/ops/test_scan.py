import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from samples import lengths, normal

from keras_attn.ops import scan
from keras_attn.ops.target import EAGER, TFLITE, tracing_for


@pytest.mark.parametrize("target", [EAGER, TFLITE], ids=["eager", "tflite"])
def test_scan_for_each_target(target):
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
        with tracing_for(target):
            outputs, state = graph(x[:steps], mask[:steps], start)
        total = start.copy()
        for t in range(steps):
            np.testing.assert_allclose(outputs["s"][t], (2 * x[t] + total) * mask[t][:, None], atol=1e-6)
            np.testing.assert_allclose(outputs["x"][t], x[t, :, 0] * mask[t], atol=1e-6)
            total += x[t] * mask[t][:, None]
        np.testing.assert_allclose(state, total, atol=1e-6)


@pytest.mark.parametrize("target", [EAGER, TFLITE], ids=["eager", "tflite"])
@pytest.mark.parametrize("steps", [5, None])
def test_random_numbers_of_a_stateless_scope_are_those_of_variables(target, steps):
    def draws(scoped):
        seeds = [keras.random.SeedGenerator(1), keras.random.SeedGenerator(2)]

        def step(x, state):
            # The second draws twice a step.
            drawn = [keras.random.uniform((2,), seed=seeds[i]) for i in (0, 1, 1)]
            return ops.concatenate(drawn), state

        @tf.function(input_signature=[tf.TensorSpec((steps, 1))], autograph=False)
        def run(x):
            with tracing_for(target):
                if not scoped:
                    return scan(step, x, x[:1])[0], keras.random.uniform((2,), seed=seeds[1])
                with keras.StatelessScope([(seed.state, seed.state.value) for seed in seeds]):
                    return scan(step, x, x[:1])[0], keras.random.uniform((2,), seed=seeds[1])

        return run(np.zeros((5, 1), "float32"))

    (inside, later), (expected, expected_later) = draws(True), draws(False)
    np.testing.assert_array_equal(inside, expected)
    np.testing.assert_array_equal(later, expected_later)
    assert len(np.unique(np.append(inside, later))) == 5 * 6 + 2
