"""A sequence as one vector."""

import math
from functools import partial

import numpy as np
import oracle
import pytest
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, H, N, embedded, lengths, normal, padded

from keras_attn.layers import (
    AttentionPooling,
    FirstTokenPooling,
    LastTokenPooling,
    MaxPooling,
    MeanPooling,
    SequencePooling,
    recording,
)


def left_padded(rng, B, T, S):
    return {"inputs": normal(rng, B, T, D), "inputs_mask": lengths(B, T)[:, ::-1].copy()}


def mean_oracle(weights, inputs, inputs_mask):
    return np.stack([x[mask].mean(axis=0) for x, mask in zip(inputs, inputs_mask, strict=True)])


def first_oracle(weights, inputs, inputs_mask):
    return np.stack([x[mask][0] for x, mask in zip(inputs, inputs_mask, strict=True)])


def gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf)(x / 2**0.5))


def network_oracle(weights, inputs, inputs_mask):
    """Attention, then the network of SigLIP."""
    weights, (gamma, beta, w1, b1, w2, b2) = weights[:-6], weights[-6:]
    x = attention_oracle(weights, inputs, inputs_mask)
    centred = x - x.mean(-1, keepdims=True)
    return x + gelu((centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * gamma + beta) @ w1 + b1) @ w2 + b2


def attention_oracle(weights, inputs, inputs_mask=None):
    query, *weights = weights
    query = np.repeat(query, len(inputs), axis=0)
    mask = True if inputs_mask is None else inputs_mask[:, None, None]
    return oracle.multi_head_attention(weights, query, inputs, mask=mask)[0][:, 0]


def sequence_oracle(weights, inputs, inputs_mask=None):
    pooled = []
    for i, x in enumerate(inputs):
        x = x if inputs_mask is None else x[inputs_mask[i]]
        exponentials = np.exp(x @ weights[0])
        pooled.append((exponentials / exponentials.sum() * x).sum(axis=0))
    return np.stack(pooled)


BAD = (
    ({"inputs": np.ones((2, D), "float32"), "inputs_mask": None}, "`inputs` must have rank 3"),
    ({"inputs_mask": np.ones((2, 4), "bool")}, r"`inputs_mask` must have shape \(2, 5\).*\(2, 4\)"),
)


def masked_case(name, make, truth, inputs=padded, bad=BAD, exempt=None):
    masks = {"inputs": "inputs_mask"}
    return LayerCase(name, make, inputs, truth, masks, bad, exempt or {}, output_mask=lambda mask: mask.any(axis=1))


CASES = [
    masked_case("mean_pooling", MeanPooling, mean_oracle),
    LayerCase("mean_pooling_all", MeanPooling, embedded, lambda weights, inputs: inputs.mean(axis=1)),
    masked_case("first_token_pooling", FirstTokenPooling, first_oracle),
    masked_case("first_token_pooling_left", FirstTokenPooling, first_oracle, left_padded),
    LayerCase("first_token_pooling_all", FirstTokenPooling, embedded, lambda weights, inputs: inputs[:, 0]),
    masked_case(
        "attention_pooling",
        partial(AttentionPooling, num_heads=N, key_dim=H),
        attention_oracle,
        bad=(
            *BAD,
            ({"num_heads": 0}, "`num_heads`"),
            ({"key_dim": 0}, "`key_dim`"),
            ({"key_dim": None}, "`num_heads` must divide the 13 channels.*Received: num_heads=3"),
            ({"dropout": 1.0}, "`dropout`"),
        ),
    ),
    masked_case(
        "attention_pooling_network",
        partial(AttentionPooling, num_heads=N, key_dim=H, intermediate_dim=DV),
        network_oracle,
        bad=(({"intermediate_dim": 0}, "`intermediate_dim`"),),
    ),
    masked_case(
        "max_pooling",
        MaxPooling,
        lambda weights, inputs, inputs_mask: np.stack(
            [x[mask].max(axis=0) for x, mask in zip(inputs, inputs_mask, strict=True)]
        ),
    ),
    masked_case(
        "last_token_pooling",
        LastTokenPooling,
        lambda weights, inputs, inputs_mask: np.stack(
            [x[mask][-1] for x, mask in zip(inputs, inputs_mask, strict=True)]
        ),
    ),
    LayerCase("last_token_pooling_all", LastTokenPooling, embedded, lambda weights, inputs: inputs[:, -1]),
    masked_case(
        "first_token_pooling_two",
        partial(FirstTokenPooling, index=1, num_tokens=2),
        lambda weights, inputs, inputs_mask: np.stack(
            [x[mask][1:3].mean(axis=0) for x, mask in zip(inputs, inputs_mask, strict=True)]
        ),
        left_padded,
        bad=(({"index": -1}, "`index`"), ({"num_tokens": 0}, "`num_tokens`")),
    ),
    LayerCase("attention_pooling_all", AttentionPooling, embedded, attention_oracle),
    masked_case("sequence_pooling", SequencePooling, sequence_oracle),
    LayerCase("sequence_pooling_all", SequencePooling, embedded, sequence_oracle),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_mean_of_large_numbers_is_summed_in_float32(dtype):
    layer = MeanPooling(dtype=dtype)
    x = np.full((1, 4096, 1), 3e4, "float32")
    np.testing.assert_allclose(np.asarray(layer(x), "float32"), 3e4, rtol=1e-2)


def test_the_weights_of_sequence_pooling_are_recorded():
    layer = SequencePooling()
    inputs, mask = padded(np.random.default_rng(0), 2, 5, 0).values()
    with recording() as scores:
        pooled = layer(inputs, inputs_mask=mask)
    [weights] = scores.values()
    assert weights.shape == (2, 1, 1, 5)
    np.testing.assert_array_equal(np.asarray(weights)[:, 0, 0] > 0, mask)
    np.testing.assert_allclose(np.einsum("bt,btd->bd", weights[:, 0, 0], inputs), pooled, atol=1e-6)
