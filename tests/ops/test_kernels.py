"""Every kernel gives dense attention's outputs and gradients, with every option, wherever and however it is called."""

import functools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.ops import AttentionMask, blockwise_attention, dense_attention, linear_attention, local_attention

B, N, K, T, H, HV = 2, 4, 2, 11, 3, 5
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    from keras_attn.ops import blockwise_loop

    monkeypatch.setattr(sys.modules[blockwise_attention.__module__], "_QUERIES", 4)
    monkeypatch.setattr(sys.modules[dense_attention.__module__], "_LONG", 4)
    monkeypatch.setattr(blockwise_loop, "QUERIES", 4)
    monkeypatch.setattr(blockwise_loop, "KEYS", 3)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


PLACES = np.arange(T, dtype="int32")[None]
POSITIONS = {"query_positions": PLACES, "key_positions": PLACES}
REAL = np.arange(T) < np.array([[T], [6]])
PADDING = {"query_mask": REAL, "key_mask": REAL}
PACKED = np.sort(RNG.integers(0, 3, (B, T)), axis=1).astype("int32")
SEGMENTS = {"query_segments": PACKED, "key_segments": PACKED}
CAUSAL, WINDOW = {**POSITIONS, "causal": True}, {**POSITIONS, "window": 3}
PAIRS = RNG.random((B, 1, T, T)) < 0.6
BIAS, SINKS = {"bias": normal(1, N, T, T)}, {"sinks": normal(N)}

SOFTMAX = {
    "free": ({}, SINKS),
    "causal": (CAUSAL, {}),
    "causal_sinks": (CAUSAL, {**SINKS, "logit_soft_cap": 1.5}),
    "causal_padding": ({**CAUSAL, **PADDING}, BIAS),
    "segments": ({**CAUSAL, **SEGMENTS}, SINKS),
    "sink_tokens": ({**CAUSAL, "window": 3, "sink_tokens": 2}, {"bias": normal(T, T)}),
    "explicit": ({**POSITIONS, "explicit": PAIRS}, {**SINKS, **BIAS}),
}
WINDOWED = {
    "window": (WINDOW, SINKS),
    "window_padding": ({**WINDOW, **PADDING}, {}),
    "window_segments": ({**WINDOW, **SEGMENTS, "causal": True}, {"logit_soft_cap": 1.5}),
}
LINEAR = {"linear": (PADDING, {}), "linear_causal": ({**CAUSAL, **PADDING}, {})}
KERNELS = {
    dense_attention: {case: SOFTMAX[case] for case in ("causal", "segments")},
    blockwise_attention: {**SOFTMAX, **WINDOWED},
    local_attention: WINDOWED,
    linear_attention: LINEAR,
}
HEADS = [normal(B, N, T, H), normal(B, K, T, H), normal(B, K, T, HV)]
COTANGENT = normal(B, N, T, HV)
FREE = [tf.TensorSpec([None, x.shape[1], None, x.shape[3]]) for x in HEADS]
WAYS = {
    "eager": None,
    # Masks and positions of known lengths in a graph of unknown ones.
    "graph": {"autograph": False, "input_signature": FREE},
    "xla": {"autograph": False, "jit_compile": True},
}


def results(kernel, fields, options, graph=None):
    """The output, and gradients with respect to heads, bias and sinks; these are variables, as in a layer."""
    variables = {name: keras.Variable(x) for name, x in options.items() if isinstance(x, np.ndarray)}
    mask = AttentionMask(**fields) if fields else None

    def call(*heads):
        with tf.GradientTape() as tape:
            tape.watch(heads)
            output = kernel(*heads, mask=mask, **{**options, **variables})
        return output, *tape.gradient(output, [*heads, *(x.value for x in variables.values())], COTANGENT)

    call = call if graph is None else tf.function(call, **graph)
    return call(*map(tf.constant, HEADS))


@functools.cache
def expected(is_linear, case):
    if is_linear:
        return results(linear_attention, *LINEAR[case])
    return results(dense_attention, *KERNELS[blockwise_attention][case])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kernel", "case"), [(kernel, case) for kernel, cases in KERNELS.items() for case in cases])
def test_equals_dense(kernel, case, way):
    actual = results(kernel, *KERNELS[kernel][case], WAYS[way])
    for a, e in zip(actual, expected(kernel is linear_attention, case), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5)
