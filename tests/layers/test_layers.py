"""Every layer passes every check of the harness."""

import dataclasses
from functools import partial

import keras
import numpy as np
import oracle
import pytest
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, H, M, N, at_positions, embedded, ids, lengths, normal, padded, square, with_memory

from keras_attn.layers import (
    ALiBiPositionBias,
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    LearnedPositionEmbedding,
    MultiHeadAttention,
    PaddingMask,
    PositionEncoding,
    Projection,
    RelativePositionBias,
    Residual,
    RotaryPositionEncoding,
    SinusoidalPositionEncoding,
    TokenEmbedding,
)

OFFSET = 4
ALIBI = keras.saving.serialize_keras_object(ALiBiPositionBias(num_heads=3))
ROTARY = keras.saving.serialize_keras_object(RotaryPositionEncoding(rotary_dim=6))
INTERLEAVED = keras.saving.serialize_keras_object(RotaryPositionEncoding(base=100.0, rotary_dim=10, interleaved=True))
SHORTCUT = {"dead_queries": "the shortcut and the biases carry a query that attends to nothing"}
NO_ATTENTION = {"dead_queries": "no attention"}


def self_inputs(rng, B, T, S, **static):
    return {"query": normal(rng, B, T, D), "query_mask": lengths(B, T), **static}


def self_oracle(weights, query, query_mask, rules=None, rotary=None, **kwargs):
    def rotate(x):
        return oracle.rotary(x, np.arange(x.shape[2])[None], **rotary)

    if rotary is not None:
        kwargs["rotate"] = rotate
    mask = square(query_mask, **(rules or {}))
    return oracle.multi_head_attention(weights, query, query, mask=mask, **kwargs)[0]


def self_case(name, oracle_kwargs=None, inputs=self_inputs, num_heads=N, **config):
    return LayerCase(
        name,
        partial(MultiHeadAttention, num_heads=num_heads, key_dim=H, **config),
        inputs,
        partial(self_oracle, **(oracle_kwargs or {})),
        {"query": "query_mask"},
    )


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


def alibi_oracle(weights, query, query_mask):
    return self_oracle(weights, query, query_mask, bias=oracle.alibi(N, query.shape[1], query.shape[1]))


def relative_oracle(weights, query, query_mask, **settings):
    table, *weights = weights
    positions = range(query.shape[1])
    buckets = np.array([[oracle.distance_bucket(s - t, **settings) for s in positions] for t in positions])
    return self_oracle(weights, query, query_mask, bias=table[buckets].transpose(2, 0, 1))


def relative_case(name, **settings):
    def make(dtype=None, **config):
        position = RelativePositionBias(N, **settings, dtype=dtype)
        return MultiHeadAttention(N, H, position=position, dtype=dtype, **config)

    return dataclasses.replace(self_case(name), make=make, oracle=partial(relative_oracle, **settings))


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


def cache_inputs(rng, B, T, S):
    """T new tokens behind a past of OFFSET."""
    past = tuple(normal(rng, B, N, M, H) * (np.arange(M) < OFFSET)[:, None] for _ in range(2))
    positions = OFFSET + np.arange(T, dtype="int32")[None]
    return {"query": normal(rng, B, T, D), "positions": positions, "cache": tuple(x.astype("float32") for x in past)}


def cached(weights, x, positions, cache, rotate=lambda x, positions: x):
    """`(context, cache)`; the context still without the output projection."""
    (wq, bq), (wk, bk), (wv, bv) = (weights[i : i + 2] for i in (0, 2, 4))
    q, k, v = (np.einsum("btd,dnh->bnth", x, w) + b[:, None] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    new = [np.array(past) for past in cache]
    new[0][:, :, positions[0]], new[1][:, :, positions[0]] = rotate(k, positions), v
    mask = oracle.allowed(positions[0], np.arange(M), causal=True)
    return oracle.attention(rotate(q, positions), *new, mask)[0], tuple(new)


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


BAD_ATTENTION = (
    ({"num_heads": 0}, "`num_heads`"),
    ({"key_dim": 0}, "`key_dim`.*Received: key_dim=0"),
    ({"value_dim": 2.5}, "`value_dim`"),
    ({"num_kv_heads": 2}, "`num_kv_heads` must divide"),
    ({"window": 0}, "`window`"),
    ({"sliding_window": -1}, "`window`"),
    ({"dropout": 1.0}, "`dropout`"),
    ({"logit_soft_cap": -1.0}, "`logit_soft_cap`"),
    ({"position": "rotary"}, "`position`"),
    ({"mechanism": "magic"}, "`mechanism` must be one of 'auto', 'dense'.*'magic'"),
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
    dataclasses.replace(self_case("attention_alibi", position=ALIBI), oracle=alibi_oracle),
    relative_case("attention_relative", num_buckets=8, max_distance=6, bidirectional=True),
    relative_case("attention_relative_behind", num_buckets=3, max_distance=4, bidirectional=False),
    self_case("attention_rotary", {"rotary": {"rotary_dim": 6}}, position=ROTARY),
    self_case(
        "attention_interleaved",
        {"rotary": {"base": 100.0, "rotary_dim": 10, "interleaved": True}},
        num_heads=6,
        num_kv_heads=3,
        position=INTERLEAVED,
    ),
    self_case("attention_soft_cap", {"soft_cap": 0.7}, logit_soft_cap=0.7),
    self_case("attention_gate", {"use_gate": True}, use_gate=True),
    self_case("attention_qk_norm", {"qk_norm": True}, qk_norm=True),
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


POSITIONS = [
    LayerCase("no_position", PositionEncoding, at_positions, lambda weights, inputs, positions: inputs),
    LayerCase(
        "rotary_on_embeddings",
        RotaryPositionEncoding,
        embedded,
        lambda weights, inputs: inputs,
        bad=(
            ({"rotary_dim": 3}, "`rotary_dim`"),
            ({"rotary_dim": -2}, "`rotary_dim`"),
        ),
    ),
    LayerCase(
        "sinusoid",
        SinusoidalPositionEncoding,
        embedded,
        lambda weights, inputs: inputs + oracle.sinusoid(np.arange(inputs.shape[1]), D),
    ),
    LayerCase(
        "sinusoid_positions",
        partial(SinusoidalPositionEncoding, base=50.0),
        at_positions,
        lambda weights, inputs, positions: inputs + oracle.sinusoid(positions, D, 50.0),
    ),
    LayerCase(
        "learned_position",
        partial(LearnedPositionEmbedding, max_length=M),
        embedded,
        lambda weights, inputs: inputs + weights[0][: inputs.shape[1]],
        bad=(
            ({"max_length": 0}, "`max_length`"),
            ({"inputs": np.ones((2, M + 1, D), "float32")}, "`max_length`"),
        ),
    ),
    LayerCase(
        "learned_position_positions",
        partial(LearnedPositionEmbedding, max_length=M),
        at_positions,
        lambda weights, inputs, positions: inputs + weights[0][positions],
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
        exempt={"gradients": "a comparison has none"},
    ),
    LayerCase(
        "padding_mask_given",
        PaddingMask,
        lambda rng, B, T, S: {"ids": rng.integers(0, 5, size=(B, T), dtype="int32"), "given": lengths(B, T)},
        lambda weights, ids, given: given,
        exempt={"gradients": "a comparison has none"},
    ),
]


def encoder_oracle(weights, inputs, inputs_mask, rules=None, **kwargs):
    return oracle.encoder_block(weights, inputs, square(inputs_mask, **(rules or {})), **kwargs)


def decoder_oracle(weights, inputs, inputs_mask, memory, memory_mask, norm):
    memory_mask = inputs_mask[:, None, :, None] & memory_mask[:, None, None, :]
    return oracle.decoder_block(weights, inputs, memory, square(inputs_mask, causal=True), memory_mask, norm)


def rotate_six(x):
    return oracle.rotary(x, np.arange(x.shape[2])[None], rotary_dim=6)


def residual_case(norm):
    def make(dtype=None, norm=norm, **config):
        return Residual(**{"layer": FeedForward(DV, dtype=dtype), "norm": norm, "dtype": dtype, **config})

    def truth(weights, inputs):
        return oracle.residual(inputs, lambda x: oracle.feed_forward(weights[:4], x), norm, weights[4:])

    return LayerCase(f"residual_{norm}".lower(), make, embedded, truth, bad=(({"norm": "middle"}, "`norm`"),))


def block_cache_inputs(rng, B, T, S):
    own = cache_inputs(rng, B, T, S)
    memory_cache = (normal(rng, B, N, S, H), normal(rng, B, N, S, H))
    memory = {"memory_cache": memory_cache, "memory_mask": lengths(B, S)}
    return {"inputs": own["query"], "positions": own["positions"], "cache": own["cache"], **memory}


def block_cache_oracle(weights, inputs, positions, cache, memory_cache, memory_mask):
    def self_attention(x):
        nonlocal cache
        context, cache = cached(weights, x, positions, cache)
        return np.einsum("bnth,nhd->btd", context, weights[6]) + weights[7]

    def cross_attention(x):
        q = np.einsum("btd,dnh->bnth", x, weights[10]) + weights[11][:, None]
        context, _ = oracle.attention(q, *memory_cache, memory_mask[:, None, None])
        return np.einsum("bnth,nhd->btd", context, weights[16]) + weights[17]

    x = oracle.residual(inputs, self_attention, "pre", weights[8:10])
    x = oracle.residual(x, cross_attention, "pre", weights[18:20])
    return oracle.residual(x, lambda y: oracle.feed_forward(weights[20:24], y), "pre", weights[24:]), cache


def encoder_case(name, oracle_kwargs=None, bad=(), **config):
    make = partial(EncoderBlock, num_heads=N, intermediate_dim=DV, key_dim=H, **config)
    truth = partial(encoder_oracle, **(oracle_kwargs or {}))
    return LayerCase(name, make, padded, truth, {"inputs": "inputs_mask"}, bad, SHORTCUT)


def decoder_case(norm):
    return LayerCase(
        f"decoder_{norm}",
        partial(DecoderBlock, num_heads=N, intermediate_dim=DV, key_dim=H, norm=norm),
        with_memory,
        partial(decoder_oracle, norm=norm),
        {"inputs": "inputs_mask", "memory": "memory_mask"},
        (
            ({"memory": None}, "`memory`"),
            ({"cross_attention": False}, "`memory`"),
            ({"memory_mask": np.ones((2, 4), "bool")}, "mask`"),
            ({"inputs": np.ones((2, D), "float32")}, "`inputs`|`query`"),
        ),
        SHORTCUT,
    )


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
    LayerCase(
        "feed_forward",
        partial(FeedForward, intermediate_dim=DV),
        embedded,
        lambda weights, inputs: oracle.feed_forward(weights, inputs),
        bad=(
            ({"intermediate_dim": 0}, "`intermediate_dim`"),
            ({"output_dim": -1}, "`output_dim`"),
            ({"inputs": np.ones((2, D), "float32")}, "`inputs`|expected ndim=3"),
        ),
    ),
    LayerCase(
        "feed_forward_gelu",
        partial(FeedForward, intermediate_dim=DV, output_dim=5, activation="gelu"),
        embedded,
        lambda weights, inputs: oracle.feed_forward(weights, inputs, "gelu"),
    ),
    *map(residual_case, ("pre", "post", "sandwich", None)),
    encoder_case(
        "encoder_pre",
        bad=(
            ({"key_dim": None}, "`num_heads` must divide"),
            ({"norm": "middle"}, "`norm`"),
            ({"inputs": np.ones((2, D), "float32")}, "`inputs`|`query`"),
            ({"inputs_mask": np.ones((2, 4), "bool")}, "mask`"),
        ),
    ),
    encoder_case("encoder_post", {"norm": "post", "activation": "gelu"}, norm="post", activation="gelu"),
    encoder_case("encoder_sandwich", {"norm": "sandwich"}, norm="sandwich"),
    encoder_case("encoder_unnormed_window", {"norm": None, "rules": {"window": 2}}, norm=None, window=2),
    encoder_case("encoder_rotary", {"rotate": rotate_six}, position=ROTARY),
    *map(decoder_case, ("pre", "post", "sandwich")),
    LayerCase(
        "decoder_only",
        partial(DecoderBlock, num_heads=N, intermediate_dim=DV, key_dim=H, cross_attention=False, position=ROTARY),
        padded,
        partial(encoder_oracle, rules={"causal": True}, rotate=rotate_six),
        {"inputs": "inputs_mask"},
        (({"memory": np.ones((2, 7, DV), "float32")}, "`memory`"),),
        SHORTCUT,
    ),
    LayerCase(
        "decoder_cache",
        partial(DecoderBlock, num_heads=N, intermediate_dim=DV, key_dim=H),
        block_cache_inputs,
        block_cache_oracle,
    ),
]

CASES = [*ATTENTION, *POSITIONS, *EMBEDDINGS, *BLOCKS]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)
