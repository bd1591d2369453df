"""Every kind of position, on embeddings and inside attention."""

import dataclasses
from functools import partial

import keras
import numpy as np
import oracle
import pytest
from attention_cases import self_case, self_inputs, self_oracle
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, H, M, N, at_positions, embedded, normal, square

from keras_attn.layers import (
    ALiBiPositionBias,
    AxialRotaryPositionEncoding,
    ConvolutionalPositionEncoding,
    DisentangledPositionEmbedding,
    EncoderBlock,
    LearnedPositionEmbedding,
    MultiHeadAttention,
    PositionEncoding,
    RelativePositionBias,
    RotaryPositionEncoding,
    ShawRelativePosition,
    SinusoidalPositionEncoding,
    SinusoidalPositionEncoding2D,
)
from keras_attn.ops import cache as kv_cache

# Contexts are tiny here: the samples are longer than one of them, and the ramps have pairs on each side.
WIDTH = 12
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "ntk": {"rope_type": "ntk", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0, "original_max_position_embeddings": 4},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 200},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 40,
    },
}
# Between the two lengths of the samples.
LONGROPE = {"rope_type": "longrope", "factor": 3.0, "original_max_position_embeddings": 5}
LONGROPE |= {"short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.0, 4.0]}


def position_case(name, kind, truth, key_dim=H):
    """Self-attention with a new position of that kind, which takes a dtype."""

    def make(dtype=None, **config):
        return MultiHeadAttention(N, key_dim, position=kind(dtype=dtype), dtype=dtype, **config)

    return LayerCase(name, make, self_inputs, truth, {"query": "query_mask"})


def alibi_oracle(weights, query, query_mask, most=8):
    return self_oracle(weights, query, query_mask, bias=oracle.alibi(N, query.shape[1], query.shape[1], most))


def relative_oracle(weights, query, query_mask, **settings):
    table, *weights = weights
    positions = range(query.shape[1])
    buckets = np.array([[oracle.distance_bucket(s - t, **settings) for s in positions] for t in positions])
    return self_oracle(weights, query, query_mask, bias=table[buckets].transpose(2, 0, 1))


def relative_case(name, **settings):
    kind = partial(RelativePositionBias, N, **settings)
    return position_case(name, kind, partial(relative_oracle, **settings))


def rotary_case(name, **settings):
    return position_case(name, partial(RotaryPositionEncoding, **settings), partial(self_oracle, rotary=settings))


def axial_oracle(weights, query, query_mask, **settings):
    def rotate(x):
        return oracle.axial_rotary(x, np.arange(x.shape[2])[None], **settings)

    return oracle.multi_head_attention(weights, query, query, mask=square(query_mask), rotate=rotate)[0]


def axial_case(name, **settings):
    kind = partial(AxialRotaryPositionEncoding, **settings)
    return position_case(name, kind, partial(axial_oracle, **settings), key_dim=WIDTH)


def shaw_oracle(weights, query, query_mask, value_dim=None):
    key_table, *weights = weights
    value_table, weights = (None, weights) if value_dim is None else (weights[0], weights[1:])
    q, k, v = (
        np.einsum("btd,dnh->bnth", query, w) + b[:, None] for w, b in zip(weights[:6:2], weights[1:6:2], strict=True)
    )
    positions = np.arange(query.shape[1])
    context, _ = oracle.shaw(q, k, v, key_table, value_table, positions, positions, square(query_mask))
    return (np.einsum("bnth,nhd->btd", context, weights[6]) + weights[7]) * query_mask[..., None]


def shaw_case(name, **settings):
    truth = partial(shaw_oracle, value_dim=settings.get("value_dim"))
    return position_case(name, partial(ShawRelativePosition, key_dim=H, **settings), truth)


def nested(rng, B, T, S):
    """Three sequences a row."""
    return {"inputs": normal(rng, B, 3, T, D)}


def patches(rng, B, T, S):
    return {"inputs": normal(rng, B, T, WIDTH)}


ON_EMBEDDINGS = [
    LayerCase("no_position", PositionEncoding, at_positions, lambda weights, inputs, positions: inputs),
    LayerCase(
        "rotary_on_embeddings",
        RotaryPositionEncoding,
        embedded,
        lambda weights, inputs: inputs,
        bad=(
            ({"rotary_dim": 3}, "`rotary_dim`"),
            ({"rotary_dim": -2}, "`rotary_dim`"),
            ({"scaling": "linear"}, "`scaling` must be None or a dict.*Received: scaling='linear'"),
            ({"scaling": {"factor": 2.0}}, "`scaling` must have a `rope_type`, one of 'default', 'dynamic', 'linear'"),
            ({"scaling": {"rope_type": "cubic"}}, "`rope_type`.*Received: scaling={'rope_type': 'cubic'}"),
            ({"scaling": {"rope_type": "yarn", "factor": 2.0}}, "must have 'original_max_position_embeddings'"),
            ({"scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 3}}, "takes 'factor', not 'beta_fast'"),
            ({"scaling": {"type": "linear", "factor": -2.0}}, "positive numbers, for 'factor'"),
            ({"scaling": {**SCALINGS["llama3"], "low_freq_factor": 4.0}}, "`high_freq_factor`"),
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
        "sinusoid_halves",
        partial(SinusoidalPositionEncoding, interleaved=False, offset=2, endpoint=True),
        patches,
        lambda weights, inputs: (
            inputs + oracle.sinusoid(2 + np.arange(inputs.shape[1]), WIDTH, interleaved=False, endpoint=True)
        ),
        bad=(({"offset": -1}, "`offset` must be a non-negative integer"),),
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
    LayerCase(
        "learned_position_rank_4",
        partial(LearnedPositionEmbedding, max_length=M),
        nested,
        lambda weights, inputs: inputs + weights[0][: inputs.shape[2]],
        bad=(({"inputs": np.ones((2, 3, M + 1, D), "float32")}, "`max_length`"),),
    ),
    LayerCase(
        "sinusoid_rank_4",
        SinusoidalPositionEncoding,
        nested,
        lambda weights, inputs: inputs + oracle.sinusoid(np.arange(inputs.shape[2]), D),
    ),
    LayerCase(
        "sinusoid_rank_4_positions",
        SinusoidalPositionEncoding,
        lambda rng, B, T, S: {**nested(rng, B, T, S), "positions": at_positions(rng, B, T, S)["positions"]},
        lambda weights, inputs, positions: inputs + oracle.sinusoid(positions, D)[:, None],
    ),
    LayerCase(
        "sinusoid_2d",
        partial(SinusoidalPositionEncoding2D, width=3, num_prefix=1),
        patches,
        lambda weights, inputs: inputs + oracle.sinusoid_2d(np.arange(inputs.shape[1]), WIDTH, 3, 1),
        bad=(
            ({"width": 0}, "`width`"),
            ({"num_prefix": -1}, "`num_prefix` must be a non-negative integer"),
            ({"inputs": np.ones((2, 5, 10), "float32")}, "`inputs` must have a multiple of 4 channels"),
        ),
    ),
    LayerCase(
        "sinusoid_2d_positions",
        partial(SinusoidalPositionEncoding2D, width=4, base=50.0),
        lambda rng, B, T, S: {**patches(rng, B, T, S), "positions": at_positions(rng, B, T, S)["positions"]},
        lambda weights, inputs, positions: inputs + oracle.sinusoid_2d(positions, WIDTH, 4, 0, 50.0),
    ),
    LayerCase(
        "axial_on_embeddings",
        partial(AxialRotaryPositionEncoding, width=3),
        embedded,
        lambda weights, inputs: inputs,
        bad=(({"width": 2.5}, "`width`"), ({"num_prefix": True}, "`num_prefix`")),
    ),
    LayerCase(
        "shaw_on_embeddings",
        partial(ShawRelativePosition, max_distance=2, key_dim=H, value_dim=5),
        embedded,
        lambda weights, inputs: inputs,
        bad=(
            ({"max_distance": 0}, "`max_distance`"),
            ({"key_dim": 0}, "`key_dim`"),
            ({"value_dim": 0}, "`value_dim`"),
        ),
    ),
]

IN_ATTENTION = [
    dataclasses.replace(
        self_case("attention_alibi", position=keras.saving.serialize_keras_object(ALiBiPositionBias(num_heads=N))),
        oracle=alibi_oracle,
    ),
    dataclasses.replace(
        self_case(
            "attention_alibi_max",
            position=keras.saving.serialize_keras_object(ALiBiPositionBias(num_heads=N, alibi_bias_max=3)),
        ),
        oracle=partial(alibi_oracle, most=3),
    ),
    relative_case("attention_relative", num_buckets=8, max_distance=6, bidirectional=True),
    relative_case("attention_relative_behind", num_buckets=3, max_distance=4, bidirectional=False),
    rotary_case("attention_rotary", rotary_dim=6),
    self_case(
        "attention_interleaved",
        {"rotary": {"base": 100.0, "rotary_dim": 10, "interleaved": True}},
        num_heads=6,
        num_kv_heads=3,
        position=keras.saving.serialize_keras_object(
            RotaryPositionEncoding(base=100.0, rotary_dim=10, interleaved=True)
        ),
    ),
    *(
        rotary_case(f"attention_rotary_{name}", base=50.0, rotary_dim=10, scaling=scaling)
        for name, scaling in SCALINGS.items()
        if name != "dynamic"
    ),
    dataclasses.replace(
        rotary_case("attention_rotary_dynamic", base=50.0, rotary_dim=10, scaling=SCALINGS["dynamic"]),
        exempt={"padding": "as in the paper, rotations depend on the length of the row, including padding"},
    ),
    dataclasses.replace(
        rotary_case("attention_rotary_longrope", base=50.0, rotary_dim=6, scaling=LONGROPE),
        exempt={"padding": "as in Phi-3, rotations depend on the length of the row, including padding"},
    ),
    axial_case("attention_axial", width=2),
    axial_case("attention_axial_prefix", width=3, num_prefix=2, base=50.0, interleaved=True),
    shaw_case("attention_shaw", max_distance=2),
    shaw_case("attention_shaw_values", max_distance=3, value_dim=H),
]

CASES = [*ON_EMBEDDINGS, *IN_ATTENTION]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


KINDS = {
    "none": PositionEncoding,
    "sinusoid": SinusoidalPositionEncoding,
    "sinusoid_2d": partial(SinusoidalPositionEncoding2D, width=3, num_prefix=1),
    "learned": partial(LearnedPositionEmbedding, max_length=M),
    "rotary": partial(RotaryPositionEncoding, rotary_dim=6),
    **{
        f"rotary_{name}": partial(RotaryPositionEncoding, base=50.0, scaling=scaling)
        for name, scaling in SCALINGS.items()
        if name != "dynamic"
    },
    # Up to its original length; beyond, every new token turns all those before it, and a cache holds what it was given.
    "rotary_dynamic": partial(
        RotaryPositionEncoding, scaling={**SCALINGS["dynamic"], "original_max_position_embeddings": 7}
    ),
    "rotary_longrope": partial(
        RotaryPositionEncoding, rotary_dim=6, scaling={**LONGROPE, "original_max_position_embeddings": 7}
    ),
    "axial": partial(AxialRotaryPositionEncoding, width=3, num_prefix=1),
    "alibi": partial(ALiBiPositionBias, num_heads=N),
    "relative": partial(RelativePositionBias, num_heads=N, num_buckets=3, max_distance=4, bidirectional=False),
    "shaw": partial(ShawRelativePosition, max_distance=3, key_dim=WIDTH, value_dim=WIDTH),
}


def test_a_packed_row_may_be_longer_than_the_table():
    layer, x = LearnedPositionEmbedding(3), np.ones((2, 5, D), "float32")
    apart = np.concatenate([layer(x[:, :3]), layer(x[:, :2])], axis=1)
    np.testing.assert_array_equal(layer(x, positions=np.array([[0, 1, 2, 0, 1]], "int32")), apart)


def randomised(*layers):
    rng = np.random.default_rng(2)
    for layer in layers:
        layer.set_weights([rng.normal(scale=0.3, size=w.shape) for w in layer.weights])


# They read all tokens at once, as encoders do: one convolves them, one belongs to `DisentangledAttention`.
OF_ENCODERS = {ConvolutionalPositionEncoding, DisentangledPositionEmbedding}


def test_every_kind_is_here():
    import keras_attn.layers as package

    kinds = {x for x in vars(package).values() if isinstance(x, type) and issubclass(x, PositionEncoding)}
    assert kinds - OF_ENCODERS == {kind.func if isinstance(kind, partial) else kind for kind in KINDS.values()}


@pytest.mark.parametrize("chunk", [1, 2, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_changes_nothing(kind, chunk):
    position = KINDS[kind]()
    attention = MultiHeadAttention(N, WIDTH, num_kv_heads=1, causal=True, position=position)
    x = normal(np.random.default_rng(0), 2, 7, WIDTH)
    attention(position(x))
    randomised(attention)
    whole = attention(position(x))
    outputs, cache = [], kv_cache.empty(2, M, 1, WIDTH, "float32")
    for start in range(0, 7, chunk):
        positions = np.arange(start, min(start + chunk, 7), dtype="int32")[None]
        output, cache = attention(position(x[:, positions[0]], positions), positions=positions, cache=cache)
        outputs.append(output)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, atol=1e-5)
    moved = attention(position(x[:, ::-1]))[:, ::-1]
    assert np.abs(moved[:, -1] - whole[:, -1]).max() > 1e-3


def test_dynamic_rotations_follow_each_row_alone():
    position = KINDS["rotary_dynamic"]()
    heads = normal(np.random.default_rng(0), 2, N, 3, WIDTH)
    together = position.rotate(heads, np.array([[0, 1, 2], [4, 9, 14]]))
    np.testing.assert_array_equal(together[:1], RotaryPositionEncoding().rotate(heads[:1], np.array([[0, 1, 2]])))
    np.testing.assert_array_equal(together[1:], position.rotate(heads[1:], np.array([[4, 9, 14]])))
    assert np.abs(together[1:] - RotaryPositionEncoding().rotate(heads[1:], np.array([[4, 9, 14]]))).max() > 0.1


def test_longrope_turns_cached_keys_at_the_original_length():
    """A layer's outputs beyond it are those of a whole row, and up to it those of a short one."""
    position = RotaryPositionEncoding(scaling={**LONGROPE, "original_max_position_embeddings": 4}, rotary_dim=6)
    attention = MultiHeadAttention(N, WIDTH, causal=True, position=position)
    x = normal(np.random.default_rng(0), 2, 7, WIDTH)
    whole, short = attention(x), attention(x[:, :4])
    _, first = attention(x[:, :2], positions=np.arange(2)[None], cache=())
    outputs, cache = [], tuple(kv_cache.extended(keys, 5) for keys in first)
    for t in range(2, 7):
        output, cache = attention(x[:, t : t + 1], positions=np.array([[t]]), cache=cache)
        outputs.append(output)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1)[:, :2], short[:, 2:], atol=1e-5)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1)[:, 2:], whole[:, 4:], atol=1e-5)
    assert np.abs(whole[:, 2:4] - short[:, 2:]).max() > 1e-3


def test_shaw_refuses_heads_of_another_width():
    attention = MultiHeadAttention(N, H, position=ShawRelativePosition(max_distance=2, key_dim=WIDTH))
    with pytest.raises(ValueError, match=r"`key_dim` must be the width of a head, 11. Received: key_dim=12"):
        attention(np.ones((2, 5, D), "float32"))


def test_axial_refuses_heads_it_cannot_halve_twice():
    attention = MultiHeadAttention(N, 10, position=AxialRotaryPositionEncoding(width=2))
    with pytest.raises(ValueError, match=r"`key_dim` must be a multiple of 4.*Received: 10"):
        attention(np.ones((2, 5, D), "float32"))


@pytest.mark.parametrize("kind", ["relative", "shaw"])
def test_blocks_share_a_position_and_still_do_after_loading(kind, tmp_path):
    position = KINDS[kind]()
    inputs = keras.Input((None, D))
    x = EncoderBlock(N, DV, key_dim=WIDTH, position=position)(inputs)
    outputs = EncoderBlock(N, DV, key_dim=WIDTH, position=position)(x)
    model = keras.Model(inputs, outputs)
    randomised(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    first, second = (layer for layer in loaded.layers if isinstance(layer, EncoderBlock))
    x = normal(np.random.default_rng(0), 2, 5, D)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert len(loaded.weights) == len(model.weights)
    assert _positions(first) == _positions(second)


def _positions(block):
    return {id(layer) for layer in block._flatten_layers() if isinstance(layer, PositionEncoding)}
