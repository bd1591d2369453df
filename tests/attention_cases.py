"""Cases of self-attention over padded rows, for whatever acts inside it, and of attention behind a cache."""

from functools import partial

import numpy as np
import oracle
from harness import LayerCase
from samples import D, H, M, N, lengths, normal, square

from keras_attn.layers import MultiHeadAttention

OFFSET = 4


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
