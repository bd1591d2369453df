"""Linear attention against the formula, pair by pair in float64."""

import dataclasses

import numpy as np
import oracle
import pytest
import tensorflow as tf

from keras_attn.ops import AttentionMask, AttentionRequest, linear_attention, select_mechanism

B, N, H, HV = 2, 6, 5, 7


def heads(length, num_keys=None, num_kv_heads=N):
    rng, num_keys = np.random.default_rng(0), num_keys or length
    shapes = ((B, N, length, H), (B, num_kv_heads, num_keys, H), (B, num_kv_heads, num_keys, HV))
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def in_order(length, causal=True, **fields):
    positions = np.arange(length, dtype="int32")[None]
    return AttentionMask(query_positions=positions, key_positions=positions, causal=causal, **fields)


def padding(length):
    return np.arange(length) < np.array([[length], [length // 3]])


@pytest.mark.parametrize("num_kv_heads", [6, 3, 1])
@pytest.mark.parametrize("length", [1, 5, 64, 65, 200])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_equals_oracle(padded, causal, length, num_kv_heads):
    arrays = heads(length, num_kv_heads=num_kv_heads)
    real = padding(length) if padded else np.ones((B, length), "bool")
    mask = in_order(length, causal, **({"query_mask": real, "key_mask": real} if padded else {}))
    allowed = real[:, None, :, None] & real[:, None, None, :]
    allowed = allowed & oracle.allowed(np.arange(length), np.arange(length), causal)
    expected = oracle.linear_attention(*(x.astype("float64") for x in arrays), allowed)
    found = np.asarray(linear_attention(*arrays, mask=mask))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    dead = np.broadcast_to(~allowed.any(-1), (B, N, length))
    np.testing.assert_array_equal(found[dead], 0)


def test_other_keys():
    arrays, real = heads(5, 9), padding(9)
    mask = AttentionMask(key_mask=real)
    expected = oracle.linear_attention(*(x.astype("float64") for x in arrays), real[:, None, None])
    np.testing.assert_allclose(linear_attention(*arrays, mask=mask), expected, atol=1e-5)
    expected = oracle.linear_attention(*(x.astype("float64") for x in arrays))
    np.testing.assert_allclose(linear_attention(*arrays), expected, atol=1e-5)


@pytest.mark.parametrize("positions", [[[3, 4, 5, 6, 7]], [[0, 1, 2, 3, 4], [4, 2, 8, 0, 1]]])
def test_a_cache_hides_what_no_token_has_reached(positions):
    arrays, positions = heads(5, 9, num_kv_heads=3), np.array(positions, "int32")
    mask = AttentionMask(query_positions=positions, key_positions=np.arange(9, dtype="int32")[None], causal=True)
    allowed = oracle.allowed(positions, np.arange(9)[None], causal=True)[:, None]
    expected = oracle.linear_attention(*(x.astype("float64") for x in arrays), allowed)
    np.testing.assert_allclose(linear_attention(*arrays, mask=mask), expected, atol=1e-5)
    # As that of beams, which see their own slots only.
    seen = (np.arange(9) + np.arange(5)[:, None]) % 3 > 0
    expected = oracle.linear_attention(*(x.astype("float64") for x in arrays), allowed & seen)
    found = linear_attention(*arrays, mask=dataclasses.replace(mask, explicit=seen[None, None]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_gradients(causal):
    length = 70
    arrays = [tf.constant(x.astype("float64")) for x in heads(length)]
    real = padding(length)
    mask = in_order(length, causal, query_mask=real, key_mask=real)
    cotangent = np.random.default_rng(1).normal(size=(B, N, length, HV))

    def objective(arrays):
        return tf.reduce_sum(linear_attention(*arrays, mask=mask) * cotangent)

    with tf.GradientTape() as tape:
        tape.watch(arrays)
        value = objective(arrays)
    gradients = tape.gradient(value, arrays)
    rng, h = np.random.default_rng(2), 1e-6
    for i, gradient in enumerate(gradients):
        np.testing.assert_array_equal(np.where(real[:, None, :, None], 0, gradient), 0)
        direction = rng.normal(size=gradient.shape)
        ends = [
            objective([x + sign * h * direction if i == j else x for j, x in enumerate(arrays)]) for sign in (1, -1)
        ]
        np.testing.assert_allclose(np.sum(gradient * direction), (ends[0] - ends[1]) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("huge", [-1e30, 1e30])
def test_what_comes_later_or_is_masked_never_matters(huge):
    length, seen = 150, 75
    arrays = heads(length)
    expected = linear_attention(*arrays, mask=in_order(length))[:, :, :seen]
    hidden = (np.arange(length) >= seen)[:, None]
    later = [tf.constant(np.where(hidden, np.float32(huge), x)) for x in arrays]
    np.testing.assert_array_equal(linear_attention(*later, mask=in_order(length))[:, :, :seen], expected)
    real = np.broadcast_to(~hidden[:, 0], (B, length))
    for causal in (True, False):
        mask = in_order(length, causal, query_mask=real, key_mask=real)
        with tf.GradientTape() as tape:
            tape.watch(later)
            output = linear_attention(*later, mask=mask)
        np.testing.assert_array_equal(output, linear_attention(*arrays, mask=mask))
        for gradient in tape.gradient(output, later):
            assert np.all(np.isfinite(gradient))
            assert np.any(gradient)
            np.testing.assert_array_equal(np.where(hidden, gradient, 0), 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_in_half_precision_are_float32(dtype):
    length = 5000
    q, k = (tf.ones((1, 1, length, 4), dtype) for _ in range(2))
    v = tf.ones((1, 1, length, 1), dtype)
    for causal in (True, False):
        output = linear_attention(q, k, v, mask=in_order(length, causal))
        assert output.dtype == dtype
        np.testing.assert_array_equal(tf.cast(output, "float32"), 1)


@pytest.mark.parametrize("shift", [-30.0, 60.0])
def test_far_from_zero(shift):
    q, k, v = (x.astype("float64") for x in heads(9))
    allowed = np.tril(np.ones((9, 9), "bool"))
    expected = oracle.linear_attention(q, k + shift, v, allowed)
    found = linear_attention(*(x.astype("float32") for x in (q, k + shift, v)), mask=in_order(9))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_nothing_in_its_graph_is_quadratic(causal):
    length = 4096
    spec = tf.TensorSpec((B, 2, length, H))
    mask = in_order(length, causal, query_mask=padding(length), key_mask=padding(length))

    @tf.function(input_signature=[spec] * 3)
    def gradients(*arrays):
        return tf.gradients(linear_attention(*arrays, mask=mask), arrays)

    graph = gradients.get_concrete_function().graph
    largest = max(x.shape.num_elements() or 0 for op in graph.get_operations() for x in op.outputs if x.shape.rank)
    assert largest < length * length / 8


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({"mask": in_order(5, window=2)}, {"mask": in_order(5, window=2)}, "a window"),
        (
            {"mask": in_order(5, explicit=np.ones((1, 1, 5, 5), "bool"))},
            {"mask": in_order(5, explicit=np.ones((1, 1, 5, 5), "bool"))},
            "an attention_mask",
        ),
        (
            {"mask": in_order(5, query_segments=np.ones((1, 5)), key_segments=np.ones((1, 5)))},
            {"mask": in_order(5, query_segments=np.ones((1, 5)), key_segments=np.ones((1, 5)))},
            "segments",
        ),
        ({"has_bias": True}, {"bias": np.zeros((5, 5), "float32")}, "a bias"),
        ({"has_soft_cap": True}, {"logit_soft_cap": 2.0}, "logit_soft_cap"),
        ({"has_sinks": True}, {"sinks": np.zeros(N, "float32")}, "sinks"),
        ({"dropout": 0.1}, {"dropout": 0.1, "training": True}, "dropout of weights"),
        ({"return_scores": True}, {"return_scores": True}, "scores"),
    ],
)
def test_unsupported_reasons(fields, arguments, message):
    request = AttentionRequest(mask=in_order(5))
    assert select_mechanism("linear", request) is linear_attention
    message = f"linear attention has no pairs of queries and keys for {message}"
    with pytest.raises(ValueError, match=f"linear: {message}"):
        select_mechanism("linear", dataclasses.replace(request, **fields))
    with pytest.raises(ValueError, match=f"`linear_attention` does not support this call: {message}"):
        linear_attention(*heads(5), **arguments)
    np.testing.assert_array_equal(linear_attention(*heads(5), dropout=0.1), linear_attention(*heads(5)))


def test_a_cache_is_refused_where_memory_must_be_linear():
    mask = AttentionMask(np.array([[3]]), np.arange(5)[None], causal=True)
    with pytest.raises(ValueError, match=r"linear: .* all pairs with the keys of a cache"):
        select_mechanism("linear", AttentionRequest(mask=mask, cached=True, memory_efficient=True))


def test_it_is_never_chosen_unasked():
    request = AttentionRequest(mask=in_order(5))
    assert select_mechanism("auto", request) is not linear_attention
    try:
        chosen = select_mechanism("auto", dataclasses.replace(request, memory_efficient=True))
    except ValueError:
        chosen = None
    assert chosen is not linear_attention
