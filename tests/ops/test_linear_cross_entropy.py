import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.ops import linear_cross_entropy

B, T, D, V = 3, 7, 5, 23
RNG = np.random.default_rng(3)
HIDDEN, BIAS = RNG.standard_normal((B, T, D)), RNG.standard_normal(V)
KERNEL = 2 * RNG.standard_normal((D, V))
LABELS, WEIGHTS = RNG.integers(0, V, (B, T)), RNG.uniform(0.1, 2, (B, T)) * (RNG.random((B, T)) < 0.7)


def in_float64(hidden=HIDDEN, kernel=KERNEL, bias=BIAS, labels=LABELS, weights=WEIGHTS, label_smoothing=0.0):
    """The sum by its definition, and its gradients by the formula of softmax, from `(N, D)` and `(D, V)`."""
    x, y, w = hidden.reshape(-1, D), labels.reshape(-1), weights.reshape(-1)
    logits = x @ kernel + bias
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = (1 - label_smoothing) * np.eye(V)[y] + label_smoothing / V
    losses, errors = -(target * log_p).sum(-1), (np.exp(log_p) - target) * w[:, None]
    to_hidden = (errors @ kernel.T).reshape(hidden.shape)
    return (losses * w).sum(), to_hidden, x.T @ errors, errors.sum(0)


def with_gradients(hidden=HIDDEN, kernel=KERNEL, bias=BIAS, labels=LABELS, dtype="float32", scale=1.0, **options):
    given = [tf.constant(hidden, dtype), tf.constant(kernel, "float32"), tf.constant(bias, "float32")]
    weights = tf.constant(options.pop("weights", WEIGHTS), "float32")
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = linear_cross_entropy(*given, labels, weights, **options)
        scaled = loss * scale
    return loss, *tape.gradient(scaled, given)


def close(actual, expected, tolerance=2e-6):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(tf.cast(a, "float64"), e, atol=tolerance * np.abs(e).max())


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_sum_and_gradients_are_those_of_the_formula(transpose_kernel, label_smoothing):
    kernel = KERNEL.T if transpose_kernel else KERNEL
    options = {"transpose_kernel": transpose_kernel, "label_smoothing": label_smoothing}
    expected = in_float64(label_smoothing=label_smoothing)
    loss, *gradients = with_gradients(kernel=kernel, **options)
    assert loss.dtype == "float32"
    assert loss.shape == ()
    gradients[1] = tf.transpose(gradients[1]) if transpose_kernel else gradients[1]
    close([loss, *gradients], expected)
    close(with_gradients(kernel=kernel, scale=7.0, **options)[1:2], [7 * expected[1]])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_any_number_of_rows_in_one_graph(transpose_kernel, jit_compile):
    kernel = tf.constant(KERNEL.T if transpose_kernel else KERNEL, "float32")

    @tf.function(
        input_signature=[tf.TensorSpec((None, D)), tf.TensorSpec((None,), "int32"), tf.TensorSpec((None,))],
        jit_compile=jit_compile,
    )
    def graph(hidden, labels, weights):
        with tf.GradientTape() as tape:
            tape.watch([hidden, kernel])
            loss = linear_cross_entropy(
                hidden, kernel, None, labels, weights, transpose_kernel=transpose_kernel, label_smoothing=0.1
            )
        return loss, *tape.gradient(loss, [hidden, kernel])

    for rows in (1, 2, 3, 5, 21):
        given = HIDDEN.reshape(-1, D)[:rows], LABELS.reshape(-1)[:rows], WEIGHTS.reshape(-1)[:rows] + 0.1
        expected = in_float64(given[0], KERNEL, 0.0, *given[1:], label_smoothing=0.1)
        loss, to_hidden, to_kernel = graph(
            *(tf.cast(x, s.dtype) for x, s in zip(given, graph.input_signature, strict=True))
        )
        close([loss, to_hidden, tf.transpose(to_kernel) if transpose_kernel else to_kernel], expected[:3])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_loss_of_a_label_without_a_probability_is_exact(jit_compile):
    hidden = 20 * HIDDEN
    likely = tf.nn.softmax(tf.cast(hidden @ KERNEL + BIAS, "float32"))
    assert np.min(np.take_along_axis(likely.numpy(), LABELS[..., None], -1)) == 0
    graph = tf.function(lambda: with_gradients(hidden), jit_compile=jit_compile, autograph=False)
    close(graph(), in_float64(hidden))


def test_xla_holds_the_logits_of_one_part():
    given = [tf.zeros(shape) for shape in ((80, D), (D, V))]

    @tf.function(jit_compile=True)
    def graph(hidden, kernel):
        with tf.GradientTape() as tape:
            tape.watch([hidden, kernel])
            loss = linear_cross_entropy(hidden, kernel, None, np.zeros(80, "int32"), label_smoothing=0.1)
        return tape.gradient(loss, [hidden, kernel])

    program = graph.experimental_get_compiler_ir(*given)(stage="optimized_hlo")
    assert f"f32[80,{V}]" not in program
    # A part's product stands in the program once: in a loop, whose buffers serve one part after the other.
    assert len(re.findall(rf"= f32\[10,{V}\]\S* dot\(", program)) == 1


def test_no_rows_give_zero():
    loss, to_hidden, to_kernel, _ = with_gradients(HIDDEN[:0], labels=LABELS[:0], weights=WEIGHTS[:0])
    assert loss == 0
    assert to_hidden.shape == (0, T, D)
    np.testing.assert_array_equal(to_kernel, np.zeros_like(KERNEL))


def test_what_does_not_count_has_any_label_and_no_gradient():
    weights = np.where(LABELS % 3 == 0, 0.0, 1.0)
    odd = np.where(weights == 0, -100, LABELS)
    results = with_gradients(labels=odd, weights=weights, label_smoothing=0.1)
    close(results, in_float64(weights=weights, label_smoothing=0.1))
    np.testing.assert_array_equal(results[1][weights == 0], 0)


def test_without_weights_and_bias_all_rows_count_once():
    loss = linear_cross_entropy(HIDDEN.astype("float32"), KERNEL.astype("float32"), None, LABELS)
    expected = in_float64(bias=0.0, weights=np.ones((B, T)))[0]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_half_precision(dtype, tolerance):
    hidden, kernel = (tf.cast(tf.cast(x, dtype), "float64").numpy() for x in (HIDDEN, KERNEL))
    results = with_gradients(hidden, kernel, dtype=dtype, label_smoothing=0.1)
    assert [x.dtype for x in results[:3]] == [tf.float32, dtype, tf.float32]
    close(results, in_float64(hidden, kernel, label_smoothing=0.1), tolerance)


def test_small_gradients_of_float16_survive_with_a_scaled_loss():
    # Errors of about 1e-9 are zero in float16, unless the scale of the loss comes first.
    weights = np.full((B, T), 1e-8)
    expected = in_float64(weights=weights)
    results = with_gradients(weights=weights, dtype="float16", scale=2.0**30)
    close(results[1:3], [2.0**30 * x for x in expected[1:3]], 3e-3)


def test_the_logits_are_not_held_together():
    """No tensor of the graph is as large as the logits."""
    rows = 64

    @tf.function
    def graph(hidden, kernel):
        with tf.GradientTape() as tape:
            tape.watch([hidden, kernel])
            loss = linear_cross_entropy(hidden, kernel, None, tf.zeros((rows,), "int32"), label_smoothing=0.1)
        return tape.gradient(loss, [hidden, kernel])

    # The graph is made for any number of rows, so sizes are those of a run.
    traced = graph.get_concrete_function(tf.TensorSpec((rows, D)), tf.TensorSpec((D, V)))
    sizes = [t.shape.num_elements() for op in traced.graph.get_operations() for t in op.outputs]
    assert max(size for size in sizes if size is not None) < rows * V


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow with the formula of others")
def test_other_backends_compute_the_same(monkeypatch):
    expected = with_gradients(kernel=KERNEL.T, transpose_kernel=True, label_smoothing=0.1)
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    close(with_gradients(kernel=KERNEL.T, transpose_kernel=True, label_smoothing=0.1), expected, 1e-5)
