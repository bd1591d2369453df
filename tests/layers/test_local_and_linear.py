"""`MultiHeadAttention` with the mechanisms whose time is linear in the length."""

import dataclasses
import sys
from functools import partial

import numpy as np
import oracle
import pytest
import tensorflow as tf
from attention_cases import self_case, self_inputs
from harness import LayerCase, build, pairs, run_check
from harness_export import check_export
from samples import D, H, M, N, lengths, normal, square

from keras_attn.layers import ALiBiPositionBias, MultiHeadAttention, RotaryPositionEncoding, recording
from keras_attn.ops import cache as kv_cache
from keras_attn.ops import local_attention

LINEAR = {"inference": "there are no attention weights to return or drop"}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    # The samples would fit into a single chunk.
    module = sys.modules[local_attention.__module__]
    monkeypatch.setattr(module, "_SMALLEST_CHUNK", 2)


def packed_inputs(rng, B, T, S):
    segments = np.tile((np.arange(T) >= 2).astype("int32"), (B, 1))
    return {**self_inputs(rng, B, T, S), "segments": segments}


def packed_oracle(weights, query, query_mask, segments, **kwargs):
    mask = square(query_mask, causal=True, window=3) & (segments[:, :, None] == segments[:, None, :])[:, None]
    return oracle.multi_head_attention(weights, query, query, mask=mask, **kwargs)[0]


def linear_heads(weights, query, value, rotate=lambda x: x):
    q, k, v = (
        np.einsum("btd,dnh->bnth", x, w) + b[:, None]
        for x, w, b in zip((query, value, value), weights[:6:2], weights[1:6:2], strict=True)
    )
    return rotate(q), rotate(k), v


def linear_output(weights, context, live):
    return (np.einsum("bnth,nhd->btd", context, weights[6]) + weights[7]) * live[..., None]


def linear_oracle(weights, query, query_mask, causal=False, rotate=lambda x: x):
    q, k, v = linear_heads(weights, query, query, rotate)
    context = oracle.linear_attention(q, k, v, square(query_mask, causal=causal))
    return linear_output(weights, context, query_mask)


def linear_cross_inputs(rng, B, T, S):
    masks = {"query_mask": lengths(B, T), "value_mask": lengths(B, S)}
    return {"query": normal(rng, B, T, D), "value": normal(rng, B, S, D), **masks}


def linear_cross_oracle(weights, query, value, query_mask, value_mask):
    context = oracle.linear_attention(*linear_heads(weights, query, value), value_mask[:, None, None])
    return linear_output(weights, context, query_mask & value_mask.any(-1, keepdims=True))


def linear_case(name, bad=(), **config):
    truth = {name: config[name] for name in ("causal",) if name in config}
    make = partial(MultiHeadAttention, num_heads=N, key_dim=H, mechanism="linear", **config)
    return LayerCase(name, make, self_inputs, partial(linear_oracle, **truth), {"query": "query_mask"}, bad, LINEAR)


def rotate_six(x):
    return oracle.rotary(x, np.arange(x.shape[2])[None], rotary_dim=6)


def rotary_linear(dtype=None, **config):
    position = RotaryPositionEncoding(rotary_dim=6, dtype=dtype)
    return MultiHeadAttention(N, H, mechanism="linear", causal=True, position=position, dtype=dtype, **config)


local_case = partial(self_case, mechanism="local")

CASES = [
    dataclasses.replace(
        local_case("local", {"rules": {"window": 2}}, window=2),
        bad=(
            ({"window": None}, "local: local attention needs a window"),
            ({"attention_mask": np.ones((5, 5), "bool")}, "takes no attention_mask"),
            ({"bias": np.ones((5, 5), "float32")}, "takes no bias"),
            ({"sink_tokens": 2}, "sink_tokens"),
        ),
        exempt={"inference": "scores cannot be returned; separate tests cover the rest of the check"},
    ),
    *(
        dataclasses.replace(
            case, exempt={"inference": "scores cannot be returned; separate tests cover the rest of the check"}
        )
        for case in (
            local_case("local_causal", {"rules": {"causal": True, "window": 4}}, causal=True, window=4),
            local_case("local_grouped", {"rules": {"window": 3}}, num_heads=6, num_kv_heads=2, window=3),
            local_case(
                "local_soft_cap",
                {"rules": {"causal": True, "window": 3}, "soft_cap": 0.7},
                causal=True,
                window=3,
                logit_soft_cap=0.7,
            ),
            LayerCase(
                "local_packed",
                partial(MultiHeadAttention, num_heads=N, key_dim=H, causal=True, window=3, mechanism="local"),
                packed_inputs,
                packed_oracle,
                {"query": "query_mask"},
            ),
        )
    ),
    linear_case(
        "linear",
        bad=(
            ({"window": 2}, "linear: linear attention has no pairs of queries and keys for a window"),
            ({"attention_mask": np.ones((5, 5), "bool")}, "for an attention_mask"),
            ({"bias": np.ones((5, 5), "float32")}, "for a bias"),
            ({"segments": np.ones((2, 5), "int32")}, "for segments"),
            ({"logit_soft_cap": 2.0}, "for logit_soft_cap"),
            ({"sinks": True}, "for sinks"),
            ({"return_attention_scores": True}, "for scores"),
            ({"position": ALiBiPositionBias(N)}, "for a bias"),
        ),
    ),
    linear_case("linear_causal", causal=True),
    LayerCase(
        "linear_rotary",
        rotary_linear,
        self_inputs,
        partial(linear_oracle, causal=True, rotate=rotate_six),
        {"query": "query_mask"},
        exempt=LINEAR,
    ),
    LayerCase(
        "linear_cross",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, mechanism="linear"),
        linear_cross_inputs,
        linear_cross_oracle,
        {"query": "query_mask", "value": "value_mask"},
        exempt=LINEAR,
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


LENGTH = 70


def attention(mechanism, **config):
    """An attention with random weights, and a batch for it."""
    case = LayerCase(
        "any",
        partial(MultiHeadAttention, N, H, num_kv_heads=1, causal=True, mechanism=mechanism),
        lambda rng, B, T, S: {"query": normal(rng, B, LENGTH, D)},
    )
    return build(case, **config)[0], case.arguments()["query"]


@pytest.mark.parametrize("chunk", [1, 9, LENGTH])
@pytest.mark.parametrize(
    ("mechanism", "config"),
    [("local", {"window": 5}), ("local", {"window": 5, "sinks": True}), ("linear", {})],
)
def test_a_cache_changes_nothing(mechanism, config, chunk):
    layer, x = attention(mechanism, position=RotaryPositionEncoding(rotary_dim=6), **config)
    whole = layer(x)
    outputs, cache = [], kv_cache.empty(2, LENGTH + M, 1, H, "float32")
    for start in range(0, LENGTH, chunk):
        positions = np.arange(start, min(start + chunk, LENGTH), dtype="int32")[None]
        output, cache = layer(x[:, positions[0]], positions=positions, cache=cache)
        outputs.append(output)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, atol=1e-5)


@pytest.mark.parametrize("config", [{}, {"sinks": True}, {"qk_norm": True, "use_gate": True}])
def test_local_equals_dense(config):
    layer, x = attention("local", window=9, **config)
    dense = attention("dense", window=9, **config)[0]
    dense.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(x), dense(x), atol=1e-5)
    with recording() as recorded:
        np.testing.assert_array_equal(layer(x), layer(x))
    np.testing.assert_allclose(
        next(iter(recorded.values())), dense(x, return_attention_scores=True)[1], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(("mechanism", "config"), [("local", {"window": 9}), ("linear", {})])
def test_nothing_in_the_layer_is_quadratic(mechanism, config):
    layer, length = attention(mechanism, **config)[0], 4096
    specs = [tf.TensorSpec((2, length, D)), tf.TensorSpec((2, length), "bool")]

    @tf.function(input_signature=specs)
    def gradients(x, mask):
        return tf.gradients(layer(x, query_mask=mask, training=True), x)

    graph = gradients.get_concrete_function().graph
    largest = max(x.shape.num_elements() or 0 for op in graph.get_operations() for x in op.outputs if x.shape.rank)
    assert largest < length * length / 4


def test_dropout_acts_on_local_weights_in_training_only():
    layer, x = attention("local", window=9)
    dropping = attention("local", window=9, dropout=0.5)[0]
    dropping.set_weights(layer.get_weights())
    np.testing.assert_array_equal(dropping(x), layer(x))
    assert np.abs(dropping(x, training=True) - layer(x)).max() > 1e-3


def test_linear_refuses_dropout_in_training_and_scores_to_record():
    layer, x = attention("linear", dropout=0.5)
    np.testing.assert_array_equal(layer(x), layer(x))
    with pytest.raises(ValueError, match="for dropout of weights"):
        layer(x, training=True)
    with recording(), pytest.raises(ValueError, match="one that returns scores, to record them"):
        layer(x)
