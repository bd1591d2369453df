"""Attention to contents and relative positions, and its table."""

from functools import partial

import keras
import numpy as np
import oracle
import pytest
from attention_cases import self_inputs
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import H, N, embedded, normal, square

from keras_attn import EncoderModel
from keras_attn.layers import DisentangledAttention, DisentangledPositionEmbedding, RotaryPositionEncoding


def bucket(distance, num_buckets, max_distance):
    """As in the paper's code, one distance at a time."""
    if num_buckets is None:
        return np.clip(distance + max_distance, 0, 2 * max_distance - 1)
    middle = num_buckets // 2
    if abs(distance) > middle:
        far = np.log(abs(distance) / middle) / np.log((max_distance - 1) / middle) * (middle - 1)
        distance = np.sign(distance) * (np.ceil(far) + middle)
    return int(np.clip(distance + num_buckets, 0, 2 * num_buckets - 1))


def attention_oracle(weights, query, query_mask, settings, shared, c2p=True, p2c=True):
    (table, gamma, beta), weights = weights[:3], weights[3:]
    (wq, bq), (wk, bk), (wv, bv), (wo, bo), *others = zip(weights[::2], weights[1::2], strict=True)
    centred = table - table.mean(-1, keepdims=True)
    table = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-7) * gamma + beta
    q, k, v = (np.einsum("btd,dnh->bnth", query, w) + b[:, None] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    if not shared:
        wk, bk = others.pop() if c2p else (wk, bk)
        wq, bq = others.pop() if p2c else (wq, bq)
    far_q, far_k = (np.einsum("cd,dnh->cnh", table, w) + b for w, b in ((wq, bq), (wk, bk)))
    positions = range(query.shape[1])
    cells = np.array([[bucket(t - s, **settings) for s in positions] for t in positions], int)
    cells = cells.reshape(len(positions), len(positions))
    bias = c2p * np.einsum("bnth,tsnh->bnts", q, far_k[cells]) + p2c * np.einsum("bnsh,tsnh->bnts", k, far_q[cells])
    scale = (1 + c2p + p2c) ** -0.5
    context, _ = oracle.attention(q * scale, k, v, square(query_mask), bias * scale * H**-0.5)
    return (np.einsum("bnth,nhd->btd", context, wo) + bo) * query_mask[..., None]


def attention_case(name, num_buckets, max_distance, bad=(), shared=True, **terms):
    def make(dtype=None, **config):
        position = DisentangledPositionEmbedding(max_distance, num_buckets, dtype=dtype)
        return DisentangledAttention(**{"num_heads": N, "key_dim": H, "position": position, "dtype": dtype, **config})

    full = {"c2p": "content_to_position", "p2c": "position_to_content"}
    options = {"share_projections": shared, **{full[term]: value for term, value in terms.items()}}
    truth = partial(attention_oracle, settings={"num_buckets": num_buckets, "max_distance": max_distance})
    truth = partial(truth, shared=shared, **terms)
    return LayerCase(name, partial(make, **options), self_inputs, truth, {"query": "query_mask"}, bad)


CASES = [
    attention_case(
        "disentangled",
        4,
        5,
        (
            ({"position": None}, "`position` must be a DisentangledPositionEmbedding; with a template"),
            ({"position": RotaryPositionEncoding()}, "`position` must be a DisentangledPositionEmbedding or None"),
            ({"qk_norm": True}, "`qk_norm`, `add_bias_kv` and `add_zero_attn` must be False"),
        ),
    ),
    attention_case("disentangled_own_projections", None, 3, shared=False),
    attention_case("disentangled_content_to_position", 4, 7, shared=False, p2c=False),
    LayerCase(
        "disentangled_embedding",
        partial(DisentangledPositionEmbedding, max_distance=8, num_buckets=4),
        embedded,
        lambda weights, inputs: inputs,
        bad=(
            ({"max_distance": 0}, "`max_distance`"),
            ({"num_buckets": 9}, "`num_buckets` must be from 4 to max_distance=8.*Received: num_buckets=9"),
            ({"norm_epsilon": 0.0}, "`norm_epsilon`"),
        ),
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


def test_positions_of_each_row():
    layer = DisentangledAttention(N, H, DisentangledPositionEmbedding(9, 4))
    x, order = normal(np.random.default_rng(0), 2, 6, 13), np.array([[4, 0, 5, 2, 1, 3], [0, 1, 2, 3, 4, 5]])
    moved = np.stack([layer(x[i : i + 1, np.argsort(order[i])])[0] for i in range(2)])
    expected = np.take_along_axis(moved, order[..., None], axis=1)
    np.testing.assert_allclose(layer(x, positions=order), expected, atol=1e-5)


def test_blocks_share_the_table_in_files_too(tmp_path):
    attention, position = DisentangledAttention(2, 4), DisentangledPositionEmbedding(12, 4)
    model = EncoderModel(20, 2, 8, None, 16, attention=attention, position=position)
    assert sum(weight.path.endswith("embeddings") for weight in model.weights) == 2
    ids = np.array([[5, 6, 7, 9, 4, 8, 3, 2, 11], [8, 9, 3, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_allclose(model(ids[1:, :3])[0], model(ids)[1, :3], atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(ids), model(ids))
    assert len({id(block.self_attention.layer.position) for block in loaded.encoder.blocks}) == 1
