"""Every layer passes every check of the harness."""

import dataclasses
from functools import partial

import keras
import numpy as np
import oracle
import pytest
from attention_cases import cache_inputs, cached, self_case, self_inputs, self_oracle
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, H, M, N, embedded, ids, lengths, normal, square

from keras_attn.layers import (
    MultiHeadAttention,
    PaddingMask,
    Projection,
    RotaryPositionEncoding,
    ShawRelativePosition,
    TokenEmbedding,
)

ROTARY = keras.saving.serialize_keras_object(RotaryPositionEncoding(rotary_dim=6))
SHAW = keras.saving.serialize_keras_object(ShawRelativePosition(max_distance=2, key_dim=H, value_dim=H))
NO_ATTENTION = {"fully_masked": "no attention"}


def cross_inputs(rng, B, T, S):
    masks = {"query_mask": lengths(B, T), "value_mask": lengths(B, S)}
    return {"query": normal(rng, B, T, D), "value": normal(rng, B, S, DV), "key": normal(rng, B, S, 5), **masks}


def cross_oracle(weights, query, value, key, query_mask, value_mask):
    mask = query_mask[:, None, :, None] & value_mask[:, None, None, :]
    return oracle.multi_head_attention(weights, query, value, key, mask)[0]


def scores_inputs(rng, B, T, S):
    # Row t of the mask admits key t, so no query is dead.
    mask = (rng.random((B, T, S)) < 0.5) | (np.arange(S) == np.arange(T)[:, None])
    bias = normal(rng, B, N, T, S)
    memory = normal(rng, B, S, DV)
    static = {"return_attention_scores": True, "use_causal_mask": True}
    return {"query": normal(rng, B, T, D), "value": memory, "attention_mask": mask, "bias": bias, **static}


def scores_oracle(weights, query, value, attention_mask, bias, **static):
    causal = oracle.allowed(np.arange(query.shape[1]), np.arange(value.shape[1]), causal=True)
    return oracle.multi_head_attention(weights, query, value, mask=(attention_mask & causal)[:, None], bias=bias)


def no_bias_oracle(weights, **inputs):
    return self_oracle([w for kernel in weights for w in (kernel, np.zeros((1, 1)))], **inputs)


def axes_inputs(rng, *shape):
    """(B, T, S, D) to attend over T."""
    B, T, S = shape
    return {"query": normal(rng, B, T, S, D), "query_mask": np.tile(lengths(B, T)[..., None], (1, 1, S))}


def axes_oracle(weights, query, query_mask):
    columns = [self_oracle(weights, query[:, :, column], query_mask[:, :, column]) for column in range(query.shape[2])]
    return np.stack(columns, axis=2)


def volume_inputs(rng, B, T, S):
    """(B, T, 2, S, D) to attend over T and S; scores too."""
    shape = (B, T, 2, S)
    query_mask = np.broadcast_to(lengths(B, T)[:, :, None, None], shape).copy()
    return {"query": normal(rng, *shape, D), "query_mask": query_mask, "return_attention_scores": True}


def volume_oracle(weights, query, query_mask, return_attention_scores):
    B, T, W, S = query.shape[:4]
    outputs, scores = np.zeros(query.shape), np.zeros((B, W, N, T, S, T, S))
    for column in range(W):
        x, mask = query[:, :, column].reshape(B, T * S, -1), query_mask[:, :, column].reshape(B, T * S)
        y, p = oracle.multi_head_attention(weights, x, x, mask=square(mask))
        outputs[:, :, column], scores[:, column] = y.reshape(B, T, S, -1), p.reshape(B, N, T, S, T, S)
    return outputs, scores


def cache_oracle(weights, query, positions, cache):
    context, cache = cached(weights, query, positions, cache, partial(oracle.rotary, rotary_dim=6))
    return np.einsum("bnth,nhd->btd", context, weights[6]) + weights[7], cache


def memory_cache_inputs(rng, B, T, S):
    memory_cache = (normal(rng, B, N, S, H), normal(rng, B, N, S, 5))
    return {"query": normal(rng, B, T, D), "memory_cache": memory_cache, "value_mask": lengths(B, S)}


def memory_cache_oracle(weights, query, memory_cache, value_mask):
    q = np.einsum("btd,dnh->bnth", query, weights[0]) + weights[1][:, None]
    context, _ = oracle.attention(q, *memory_cache, value_mask[:, None, None])
    return np.einsum("bnth,nhd->btd", context, weights[6]) + weights[7]


def sinks_oracle(weights, query, query_mask):
    """Keras' order: a layer's own weights stand before those of its projections."""
    sinks, *weights = weights
    return self_oracle(weights, query, query_mask, sinks=sinks)


def unbiased_oracle(weights, *args, **kwargs):
    """Of a layer in which only queries and keys have biases."""
    query, query_bias, key, key_bias, value, output, *norms = weights
    weights = [query, query_bias, key, key_bias, value, np.zeros(value.shape[1:]), output, np.zeros(D), *norms]
    return self_oracle(weights, *args, **kwargs)


def extra_oracle(weights, query, query_mask, zero, rules=None):
    """A trained key and value, and a zero one where `zero`."""
    rows = [np.zeros_like(row)[:, None] if zero else row[:, None][:, :0] for row in weights[:2]]
    extra = [np.append(row[:, None], more, axis=1) for row, more in zip(weights[:2], rows, strict=True)]
    return self_oracle(weights[2:], query, query_mask, rules, extra=extra)


def seen_inputs(rng, B, T, S):
    return {**self_inputs(rng, B, T, S), "return_attention_scores": True}


def zero_oracle(weights, query, query_mask, return_attention_scores):
    extra = np.zeros((2, N, 1, H))
    return oracle.multi_head_attention(weights, query, query, mask=square(query_mask), extra=extra)


def packed_inputs(rng, B, T, S):
    """Two sequences a row, the second one behind the first, and padding."""
    return {**self_inputs(rng, B, T, S), "segments": np.tile((np.arange(T) >= 2).astype("int32"), (B, 1))}


def packed_oracle(weights, query, query_mask, segments):
    mask = square(query_mask, causal=True) & (segments[:, None, :, None] == segments[:, None, None])
    return oracle.multi_head_attention(weights, query, query, mask=mask)[0]


def packed_memory_inputs(rng, B, T, S):
    memory = {"value": normal(rng, B, S, DV), "value_segments": rng.integers(0, 3, size=(B, S), dtype="int32")}
    return {"query": normal(rng, B, T, D), "segments": rng.integers(0, 3, size=(B, T), dtype="int32"), **memory}


def packed_memory_oracle(weights, query, value, segments, value_segments):
    mask = segments[:, None, :, None] == value_segments[:, None, None]
    return oracle.multi_head_attention(weights, query, value, mask=mask)[0]


BAD_ATTENTION = (
    ({"num_heads": 0}, "`num_heads`"),
    ({"key_dim": 0}, "`key_dim`.*Received: key_dim=0"),
    ({"value_dim": 2.5}, "`value_dim`"),
    ({"num_kv_heads": 2}, "`num_kv_heads` must divide"),
    ({"window": 0}, "`window`"),
    ({"sliding_window": -1}, "`window`"),
    ({"sink_tokens": -1}, "`sink_tokens`"),
    ({"sink_tokens": 2}, "`sink_tokens`.*window"),
    ({"value_segments": np.ones((2, 5), "int32")}, "`segments` and `value_segments`"),
    ({"segments": np.ones((2, 4), "int32")}, "`segments`"),
    ({"dropout": 1.0}, "`dropout`"),
    ({"logit_soft_cap": -1.0}, "`logit_soft_cap`"),
    ({"position": "rotary"}, "`position`"),
    ({"mechanism": "magic"}, "`mechanism` must be one of 'auto', .*'dense', .*'magic'"),
    ({"flash_attention": True, "dropout": 0.1}, "`flash_attention`"),
    ({"attention_axes": 2}, "`attention_axes`"),
    ({"query": np.ones((2, D), "float32")}, "`query`"),
    ({"query": np.ones((2, 5, 7, D), "float32")}, "`query(_mask)?` must have"),
    ({"value": np.ones((2, 7, 7, D), "float32")}, "`value`"),
    ({"query_mask": np.ones((2, 4), "bool")}, r"`query_mask` must have shape \(2, 5\).*\(2, 4\)"),
    ({"value_mask": np.ones((2, 4), "bool")}, "`value_mask`"),
    ({"key_mask": np.ones((2, 5, 1), "bool")}, "`key_mask`"),
    ({"attention_mask": np.ones((2, 5, 4), "bool")}, "`attention_mask`"),
    ({"bias": np.ones((4, 5), "float32")}, "`bias`"),
    ({"cache": (np.ones((2, N, M, H), "float32"),) * 2}, "`positions` must be given"),
)

ATTENTION = [
    LayerCase(
        "attention",
        partial(MultiHeadAttention, num_heads=N, key_dim=H),
        self_inputs,
        self_oracle,
        {"query": "query_mask"},
        BAD_ATTENTION,
    ),
    LayerCase(
        "attention_cross",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, value_dim=5, output_shape=(2, 3)),
        cross_inputs,
        cross_oracle,
        {"query": "query_mask", "value": "value_mask", "key": "value_mask"},
        (({"key": np.ones((2, 6, 5), "float32")}, "`key`"),),
    ),
    LayerCase("attention_scores", partial(MultiHeadAttention, num_heads=N, key_dim=H), scores_inputs, scores_oracle),
    self_case("attention_grouped", num_heads=6, num_kv_heads=2),
    self_case("attention_causal", {"rules": {"causal": True}}, causal=True),
    self_case("attention_window", {"rules": {"window": 2}}, window=2),
    self_case("attention_causal_window", {"rules": {"causal": True, "window": 3}}, causal=True, sliding_window=3),
    self_case("attention_soft_cap", {"soft_cap": 0.7}, logit_soft_cap=0.7),
    self_case("attention_gate", {"use_gate": True}, use_gate=True),
    self_case("attention_qk_norm", {"qk_norm": True}, qk_norm=True),
    dataclasses.replace(
        self_case(
            "attention_norm_of_all_heads",
            num_heads=6,
            num_kv_heads=2,
            use_bias=["query", "key"],
            qk_norm="all_heads",
            qk_norm_epsilon=0.3,
            scale=0.7,
        ),
        oracle=partial(unbiased_oracle, qk_norm=True, epsilon=0.3, scale=0.7),
        bad=(
            ({"use_bias": "query"}, "`use_bias` must be"),
            ({"use_bias": ["queries"]}, "`use_bias` must be .*'query'"),
            ({"qk_norm": "heads"}, "`qk_norm` must be"),
            ({"qk_norm_epsilon": 0.0}, "`qk_norm_epsilon`"),
            ({"scale": -1.0}, "`scale`"),
        ),
    ),
    dataclasses.replace(self_case("attention_sinks", num_heads=6, num_kv_heads=2, sinks=True), oracle=sinks_oracle),
    dataclasses.replace(
        self_case("attention_bias_kv", num_heads=6, num_kv_heads=2, add_bias_kv=True, add_zero_attn=True),
        oracle=partial(extra_oracle, zero=True),
        bad=(({"position": SHAW}, "`add_bias_kv` and `add_zero_attn` need a `position` that adds nothing to values"),),
    ),
    dataclasses.replace(
        self_case("attention_bias_kv_window", causal=True, window=3, add_bias_kv=True),
        oracle=partial(extra_oracle, zero=False, rules={"causal": True, "window": 3}),
    ),
    dataclasses.replace(self_case("attention_zero_attn", inputs=seen_inputs, add_zero_attn=True), oracle=zero_oracle),
    self_case(
        "attention_sink_tokens",
        {"rules": {"causal": True, "window": 2, "sink_tokens": 1}},
        causal=True,
        window=2,
        sink_tokens=1,
    ),
    LayerCase(
        "attention_segments",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, causal=True),
        packed_inputs,
        packed_oracle,
        {"query": "query_mask"},
    ),
    LayerCase(
        "attention_memory_segments",
        partial(MultiHeadAttention, num_heads=N, key_dim=H),
        packed_memory_inputs,
        packed_memory_oracle,
        bad=(
            ({"segments": None}, "`segments` and `value_segments`"),
            ({"value_segments": np.ones((2, 6), "int32")}, "`value_segments`"),
        ),
    ),
    LayerCase(
        "attention_no_bias",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, use_bias=False),
        self_inputs,
        no_bias_oracle,
        {"query": "query_mask"},
    ),
    LayerCase(
        "attention_axes",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, attention_axes=1),
        axes_inputs,
        axes_oracle,
        {"query": "query_mask"},
        (({"attention_axes": 3}, "`attention_axes`"), ({"attention_axes": (0, 1)}, "`attention_axes`")),
    ),
    LayerCase(
        "attention_volume",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, attention_axes=(1, 3)),
        volume_inputs,
        volume_oracle,
        {"query": "query_mask"},
    ),
    LayerCase(
        "attention_cache",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, position=ROTARY),
        cache_inputs,
        cache_oracle,
        bad=(({"value_mask": np.ones((2, 5), "bool")}, r"`value_mask` must have shape \(2, 19\)"),),
    ),
    LayerCase(
        "attention_memory_cache",
        partial(MultiHeadAttention, num_heads=N, key_dim=H, value_dim=5),
        memory_cache_inputs,
        memory_cache_oracle,
        bad=(({"value_mask": np.ones((2, 6), "bool")}, "`value_mask`"),),
    ),
]


EMBEDDINGS = [
    LayerCase(
        "embedding",
        partial(TokenEmbedding, input_dim=M, output_dim=D, mask_zero=True),
        ids,
        lambda weights, inputs: weights[0][inputs] * D**0.5,
        bad=(({"input_dim": 0}, "`input_dim`"), ({"output_dim": 1.5}, "`output_dim`")),
    ),
    LayerCase(
        "embedding_unscaled",
        partial(TokenEmbedding, input_dim=M, output_dim=D, scale=False, tie_weights=False),
        ids,
        lambda weights, inputs: weights[0][inputs],
    ),
    LayerCase(
        "embedding_reverse",
        partial(TokenEmbedding, input_dim=M, output_dim=D),
        partial(embedded, reverse=True),
        lambda weights, inputs, reverse: inputs @ weights[0].T,
    ),
    LayerCase(
        "embedding_reverse_untied",
        partial(TokenEmbedding, input_dim=M, output_dim=D, tie_weights=False, logit_soft_cap=2.0),
        partial(embedded, reverse=True),
        lambda weights, inputs, reverse: 2 * np.tanh(inputs @ weights[1] / 2),
    ),
    LayerCase(
        "padding_mask",
        partial(PaddingMask, pad_id=3),
        lambda rng, B, T, S: {"ids": rng.integers(0, 5, size=(B, T), dtype="int32")},
        lambda weights, ids: ids != 3,
        exempt={"gradients": "a comparison has no gradient"},
    ),
    LayerCase(
        "padding_mask_given",
        PaddingMask,
        lambda rng, B, T, S: {"ids": rng.integers(0, 5, size=(B, T), dtype="int32"), "given": lengths(B, T)},
        lambda weights, ids, given: given,
        exempt={"gradients": "a comparison has no gradient"},
    ),
]


BLOCKS = [
    LayerCase(
        "projection_to_heads",
        partial(Projection, equation="abc,cde->abde", output_shape=(None, N, H), bias_axes="de"),
        embedded,
        lambda weights, inputs: np.einsum("btd,dnh->btnh", inputs, weights[0]) + weights[1],
        bad=(
            ({"equation": "abc,dec->abde"}, "`equation`"),
            ({"equation": "abc,acd->abd"}, "`equation`"),
        ),
    ),
    LayerCase(
        "projection_from_heads",
        partial(Projection, equation="abde,dec->abc", output_shape=(None, D), activation="gelu"),
        lambda rng, B, T, S: {"inputs": normal(rng, B, T, N, H)},
        lambda weights, inputs: oracle.ACTIVATIONS["gelu"](np.einsum("btnh,nhd->btd", inputs, weights[0])),
    ),
]

CASES = [*ATTENTION, *EMBEDDINGS, *BLOCKS]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)
