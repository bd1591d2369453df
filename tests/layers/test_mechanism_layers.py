"""Attention layers that never hold all logits pass every check of the harness."""

import dataclasses
import sys
from functools import partial

import keras
import numpy as np
import oracle
import pytest
from attention_cases import self_case, self_inputs, self_oracle
from harness import LayerCase, build, pairs, run_check
from harness_export import check_export
from keras import ops
from samples import DV, D, H, N, lengths, normal, square

from keras_attn.layers import MultiHeadAttention, recording
from keras_attn.ops import blockwise_attention
from keras_attn.ops.compiled import compiled

NO_SCORES = {"inference": "scores cannot be returned; separate tests cover the rest of the check"}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Two or three blocks of the harness's sizes."""
    monkeypatch.setattr(sys.modules[blockwise_attention.__module__], "_QUERIES", 3)
    if keras.backend.backend() == "tensorflow":
        from keras_attn.ops import blockwise_loop

        monkeypatch.setattr(blockwise_loop, "QUERIES", 3)
        monkeypatch.setattr(blockwise_loop, "KEYS", 2)


def memory_inputs(rng, B, T, S):
    mask = (rng.random((B, T, S)) < 0.5) & (np.arange(T) != 1)[:, None]
    masks = {"query_mask": lengths(B, T), "value_mask": lengths(B, S), "attention_mask": mask}
    return {"query": normal(rng, B, T, D), "value": normal(rng, B, S, DV), "bias": normal(rng, B, N, T, S), **masks}


def memory_oracle(weights, query, value, bias, query_mask, value_mask, attention_mask):
    mask = query_mask[:, None, :, None] & value_mask[:, None, None, :] & attention_mask[:, None]
    return oracle.multi_head_attention(weights, query, value, mask=mask, bias=bias)[0]


def segments_inputs(rng, B, T, S):
    return {**self_inputs(rng, B, T, S), "segments": np.sort(rng.integers(0, 3, (B, T), dtype="int32"), axis=1)}


def segments_oracle(weights, query, query_mask, segments):
    mask = square(query_mask, causal=True) & (segments[:, :, None] == segments[:, None, :])[:, None]
    return oracle.multi_head_attention(weights, query, query, mask=mask)[0]


def sinks_oracle(weights, query, query_mask):
    return self_oracle(weights[1:], query, query_mask, sinks=weights[0])


def blockwise(name, oracle_kwargs=None, **config):
    return dataclasses.replace(self_case(name, oracle_kwargs, mechanism="blockwise", **config), exempt=NO_SCORES)


CASES = [
    blockwise("blockwise"),
    blockwise("blockwise_causal", {"rules": {"causal": True}}, causal=True),
    blockwise("blockwise_window_grouped", {"rules": {"window": 2}}, num_heads=6, num_kv_heads=2, window=2),
    blockwise("blockwise_soft_cap", {"soft_cap": 0.7, "rules": {"causal": True}}, logit_soft_cap=0.7, causal=True),
    dataclasses.replace(blockwise("blockwise_sinks", sinks=True), oracle=sinks_oracle),
    LayerCase(
        "blockwise_memory",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, value_dim=5, mechanism="blockwise"),
        memory_inputs,
        memory_oracle,
        {"query": "query_mask", "value": "value_mask"},
        bad=(({"return_attention_scores": True}, "`mechanism` must support this call: blockwise: .*scores"),),
        exempt=NO_SCORES,
    ),
    LayerCase(
        "blockwise_segments",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, causal=True, mechanism="blockwise"),
        segments_inputs,
        segments_oracle,
        {"query": "query_mask"},
        exempt=NO_SCORES,
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recording_and_a_rate_of_dropout_change_nothing(case):
    layer, arguments = build(case)
    expected = np.asarray(layer(**arguments))
    with recording() as records:
        np.testing.assert_array_equal(layer(**arguments), expected)
    [scores] = records.values()
    assert scores.shape[:3] == (*expected.shape[:1], layer.num_heads, expected.shape[1])
    dropping = case.make(dropout=0.5)
    dropping(**arguments)
    dropping.set_weights(layer.get_weights())
    np.testing.assert_array_equal(dropping(**arguments), expected)
    trained = np.asarray(dropping(**arguments, training=True))
    assert np.all(np.isfinite(trained))
    assert np.max(np.abs(trained - expected)) > 1e-3


@pytest.mark.parametrize(
    ("mechanism", "config"), [("blockwise", {"causal": True}), ("blockwise", {"window": 2}), ("local", {"window": 2})]
)
def test_positions_of_a_known_length_in_a_graph_of_an_unknown_one(mechanism, config):
    layer, x = MultiHeadAttention(N, H, mechanism=mechanism, **config), np.ones((2, 7, D), "float32").cumsum(1)
    positions = np.arange(7, dtype="int32")[None] * 2
    graph = compiled(lambda x: layer(x, positions=positions), keras.KerasTensor((None, None, D)))
    np.testing.assert_allclose(graph(ops.convert_to_tensor(x)), layer(x, positions=positions), atol=1e-5)
