"""Local attention is dense attention under the same window."""

import dataclasses
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.ops import AttentionMask, AttentionRequest, dense_attention, local_attention, select_mechanism

B, N, H, HV = 2, 6, 5, 7


def heads(length, num_kv_heads=N):
    rng = np.random.default_rng(0)
    shapes = ((B, N, length, H), (B, num_kv_heads, length, H), (B, num_kv_heads, length, HV))
    return [tf.constant(rng.normal(size=shape).astype("float32")) for shape in shapes]


def windowed(length, window, causal=False, **fields):
    fields = {"query_positions": np.arange(length, dtype="int32")[None], **fields}
    return AttentionMask(key_positions=fields["query_positions"], causal=causal, window=window, **fields)


def padding(length):
    return np.arange(length) < np.array([[length], [length // 3]])


def assert_agree(arrays, mask, **arguments):
    """Outputs and gradients of both."""
    found = []
    for kernel in (local_attention, dense_attention):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            output = kernel(*arrays, mask=mask, **arguments)
            cotangent = tf.reshape(tf.sin(tf.range(tf.size(output), dtype=tf.float32)), tf.shape(output))
            objective = tf.reduce_sum(output * cotangent)
        found.append((output, *tape.gradient(objective, arrays, unconnected_gradients="zero")))
    for local, dense in zip(*found, strict=True):
        np.testing.assert_allclose(local, dense, atol=2e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("length", "window"),
    [(1, 1), (5, 2), (97, 1), (97, 7), (96, 33), (97, 33), (97, 34), (97, 97), (97, 300), (301, 129), (301, 150)],
)
def test_equals_dense(length, window, causal):
    assert_agree(heads(length), windowed(length, window, causal))


def packed(length):
    """Three sequences in a row: segments, and positions that start again with each."""
    starts = np.array([0, length // 5, length // 2])
    segments = np.searchsorted(starts, np.arange(length), side="right")
    positions = np.arange(length) - starts[segments - 1]
    segments = np.stack([segments, np.ones_like(segments)]).astype("int32")
    return {
        "query_positions": np.stack([positions, np.arange(length)]).astype("int32"),
        "query_segments": segments,
        "key_segments": segments,
    }


LENGTH = 97
HOLES = np.random.default_rng(1).random((B, LENGTH)) < 0.2


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("num_kv_heads", [6, 3, 1])
@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"query_mask": padding(LENGTH), "key_mask": padding(LENGTH)}, {}),
        # So many holes that windows of nothing else occur.
        ({"key_mask": HOLES}, {}),
        ({"query_mask": ~HOLES}, {"scale": 0.7}),
        (packed(LENGTH), {}),
        ({**packed(LENGTH), "key_mask": padding(LENGTH)}, {}),
        ({"query_positions": 1000 + np.stack([np.arange(LENGTH), 3 * np.arange(LENGTH)]).astype("int32")}, {}),
        ({}, {"logit_soft_cap": 1.5}),
        ({"key_mask": HOLES}, {"sinks": tf.linspace(-2.0, 2.0, N)}),
    ],
    ids=["padding", "holes", "queries", "packed", "packed_padding", "positions", "soft_cap", "sinks"],
)
def test_equals_dense_with(fields, arguments, num_kv_heads, causal):
    assert_agree(heads(LENGTH, num_kv_heads), windowed(LENGTH, 7, causal, **fields), **arguments)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 220), st.booleans(), st.integers(0, 2**16))
def test_any_length_and_window(length, window, causal, seed):
    mask = windowed(length, window, causal, key_mask=np.random.default_rng(seed).random((B, length)) < 0.5)
    arrays = heads(length)
    output = local_attention(*arrays, mask=mask)
    np.testing.assert_allclose(output, dense_attention(*arrays, mask=mask), atol=1e-5)
    assert np.all(np.asarray(output).any(axis=(1, 3)) == np.asarray(mask.unmasked_queries())[:, 0, :, 0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_keeps_the_dtype(dtype):
    arrays, mask = [tf.cast(x, dtype) for x in heads(LENGTH)], windowed(LENGTH, 7)
    output = local_attention(*(x * 30 for x in arrays[:2]), arrays[2], mask=mask)
    assert output.dtype == dtype
    expected = dense_attention(*(x * 30 for x in arrays[:2]), arrays[2], mask=mask)
    np.testing.assert_allclose(
        tf.cast(output, "float64"), tf.cast(expected, "float64"), atol=1e-12 if dtype == "float64" else 0.1
    )


def test_dropout_keeps_the_mean_and_acts_in_training_only():
    arrays, mask = [tf.tile(x[:1], (500, 1, 1, 1)) for x in heads(11)], windowed(11, 4)
    exact = local_attention(*arrays, mask=mask, dropout=0.5, seed=1)
    np.testing.assert_array_equal(exact, local_attention(*arrays, mask=mask))
    dropped = local_attention(*arrays, mask=mask, dropout=0.5, seed=1, training=True)
    assert np.abs(dropped - exact).max() > 0.1
    np.testing.assert_allclose(np.mean(dropped, axis=0), exact[0], atol=0.2)


@pytest.mark.parametrize("masked", [-3.0, 1e30])
def test_what_is_masked_never_matters(masked):
    mask = windowed(LENGTH, 7, query_mask=padding(LENGTH), key_mask=padding(LENGTH))
    arrays = heads(LENGTH)
    expected = local_attention(*arrays, mask=mask)
    real = padding(LENGTH)[:, None, :, None]
    arrays = [tf.where(real, x, masked) for x in arrays]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        output = local_attention(*arrays, mask=mask)
    np.testing.assert_array_equal(output, expected)
    for gradient in tape.gradient(output, arrays):
        assert np.any(gradient)
        np.testing.assert_array_equal(np.where(real, 0, gradient), 0)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_nothing_in_its_graph_is_quadratic(jit_compile):
    length = 4096
    mask = windowed(length, 64, causal=True, query_mask=padding(length), key_mask=padding(length))
    q = tf.TensorSpec((B, 2, length, H))

    @tf.function(input_signature=[q, q, q], jit_compile=jit_compile)
    def gradients(*arrays):
        return tf.gradients(local_attention(*arrays, mask=mask), arrays)

    graph = gradients.get_concrete_function().graph
    largest = max(x.shape.num_elements() or 0 for op in graph.get_operations() for x in op.outputs if x.shape.rank)
    assert largest < B * 2 * length * length / 16


def test_unknown_length():
    @tf.function(input_signature=[tf.TensorSpec((None, N, None, w)) for w in (H, H, HV)])
    def attend(q, k, v):
        positions = tf.range(tf.shape(q)[2])[None]
        return local_attention(q, k, v, mask=AttentionMask(positions, positions, causal=True, window=40))

    for length in (1, 40, 64, 100):
        expected = dense_attention(*heads(length), mask=windowed(length, 40, causal=True))
        np.testing.assert_allclose(attend(*heads(length)), expected, atol=1e-5)


CACHED = AttentionMask(np.arange(3, 5, dtype="int32")[None], np.arange(9, dtype="int32")[None], causal=True, window=2)


@pytest.mark.parametrize(
    ("mask", "arguments"),
    [
        (CACHED, {}),
        (dataclasses.replace(windowed(9, 2), explicit=np.random.default_rng(1).random((B, 1, 9, 9)) < 0.5), {}),
        (dataclasses.replace(windowed(9, 2), sink_tokens=1), {}),
        (windowed(9, 2), {"bias": np.random.default_rng(1).normal(size=(1, 1, 9, 9)).astype("float32")}),
        (windowed(9, None), {}),
    ],
    ids=["cache", "explicit", "sink_tokens", "bias", "no_window"],
)
def test_dense_attention_answers_the_rest(mask, arguments):
    q, k, v = heads(9)
    q = q[:, :, : mask.query_positions.shape[1]]
    expected = dense_attention(q, k, v, mask=mask, return_scores=True, **arguments)
    np.testing.assert_array_equal(local_attention(q, k, v, mask=mask, **arguments), expected[0])
    for found, exact in zip(
        local_attention(q, k, v, mask=mask, return_scores=True, **arguments), expected, strict=True
    ):
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": None}, "needs a window"),
        ({"mask": windowed(9, None)}, "needs a window"),
        ({"has_bias": True}, "takes no bias"),
        (
            {"mask": dataclasses.replace(windowed(9, 2), explicit=np.ones((1, 1, 9, 9), "bool"))},
            "takes no attention_mask",
        ),
        ({"mask": dataclasses.replace(windowed(9, 2), sink_tokens=1)}, "has no sink_tokens"),
        ({"return_scores": True}, "never computes all scores"),
        ({"mask": CACHED, "memory_efficient": True}, "is dense if queries and keys are not"),
    ],
)
def test_unsupported_reasons(fields, message):
    request = AttentionRequest(mask=windowed(9, 2))
    assert select_mechanism("local", request) is local_attention
    with pytest.raises(ValueError, match=f"local: local attention {message}"):
        select_mechanism("local", dataclasses.replace(request, **fields))


def test_recording_takes_the_scores_of_dense_attention():
    arrays, mask = heads(9), windowed(9, 2, causal=True)
    kernel = select_mechanism("local", AttentionRequest(mask=mask), recording=True)
    output, scores = kernel(*arrays, mask=mask, return_scores=True)
    np.testing.assert_array_equal(output, local_attention(*arrays, mask=mask))
    np.testing.assert_array_equal(scores, dense_attention(*arrays, mask=mask, return_scores=True)[1])


@pytest.mark.parametrize(("smallest", "largest"), [(1, 2), (1, 128), (64, 64)])
def test_the_size_of_chunks_changes_nothing(smallest, largest, monkeypatch):
    module = sys.modules[local_attention.__module__]
    monkeypatch.setattr(module, "_SMALLEST_CHUNK", smallest)
    monkeypatch.setattr(module, "_LARGEST_CHUNK", largest)
    for window in (1, 2, 3, 12):
        assert_agree(heads(23), windowed(23, window))


@pytest.mark.parametrize(
    ("length", "fields", "preferred"),
    [
        (4096, {}, True),
        (4096, {"causal": False}, True),
        (600, {"causal": False}, False),
        (300, {}, False),
        (4096, {"window": 2048}, False),
        # It cannot be seen whether these ascend, and these do not.
        (4096, {"query_positions": tf.range(4096)[None]}, False),
        (4096, {"query_positions": np.arange(4096)[None] // 2}, False),
    ],
)
def test_auto_takes_it_for_long_sequences_in_order(length, fields, preferred):
    mask = windowed(length, **{"window": 64, "causal": True, **fields})
    request = AttentionRequest((1, N, length, H), (1, N, length, H), mask)
    assert (select_mechanism("auto", request) is local_attention) == preferred
