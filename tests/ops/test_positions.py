"""The codes that `sinusoid` adds, the turns that `rotary` makes, the products with a table of distances."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.layers import RotaryPositionEncoding
from keras_attn.ops import grid_cells, relative_logits, relative_values, rotary, rotary_frequencies, sinusoid

B, N, T, H = 2, 3, 5, 12


@pytest.mark.parametrize("dim", [1, 7, 12])
@pytest.mark.parametrize("positions", [np.arange(500), np.array([[0, 3, 1], [7, 2, 2]]), np.array(11)])
def test_sinusoid_equals_oracle(positions, dim):
    for base in (10000.0, 50.0):
        code = sinusoid(positions, dim, base)
        assert code.dtype == "float32"
        np.testing.assert_allclose(code, oracle.sinusoid(positions, dim, base), atol=5e-5)


def test_sinusoid_with_the_sines_first():
    code = sinusoid(np.arange(50), 12, interleaved=False)
    np.testing.assert_array_equal(code[:, :6], sinusoid(np.arange(50), 12)[:, ::2])
    np.testing.assert_array_equal(code[:, 6:], sinusoid(np.arange(50), 12)[:, 1::2])
    assert sinusoid(np.arange(50), 11, interleaved=False).shape == (50, 11)


def heads():
    return np.random.default_rng(0).normal(size=(B, N, T, H)).astype("float32")


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [None, 2, 6, 12])
def test_rotary_equals_oracle(rotary_dim, interleaved):
    x, positions = heads(), np.array([[0, 3, 1, 9, 300], [7, 7, 2, 0, 1]], "int32")
    config = {"base": 500.0, "rotary_dim": rotary_dim, "interleaved": interleaved}
    np.testing.assert_allclose(rotary(x, positions, **config), oracle.rotary(x, positions, **config), atol=5e-5)
    shared = rotary(x, positions[:1], **config)
    np.testing.assert_array_equal(shared[:1], rotary(x[:1], positions[:1], **config))
    np.testing.assert_array_equal(shared[1:], rotary(x[1:], positions[:1], **config))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.booleans(), st.sampled_from([None, 4, 8]))
def test_rotated_products_depend_on_distance_only(query, key, shift, interleaved, rotary_dim):
    x = heads()

    def product(query, key):
        q, k = (
            rotary(x[i : i + 1, :, :1], np.full((1, 1), p), interleaved=interleaved, rotary_dim=rotary_dim)
            for i, p in enumerate((query, key))
        )
        return np.sum(q * k, axis=-1)

    np.testing.assert_allclose(product(query + shift, key + shift), product(query, key), atol=2e-3)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_turns(interleaved):
    x, positions = heads(), np.arange(T)[None]
    turned = rotary(x, positions, interleaved=interleaved)
    assert np.max(np.abs(turned - x)) > 0.1
    np.testing.assert_array_equal(turned[:, :, 0], x[:, :, 0])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(rotary(turned, -positions, interleaved=interleaved), x, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_rotary_keeps_the_dtype(dtype):
    x = heads().astype(dtype)
    turned = rotary(x, np.arange(T)[None])
    assert turned.dtype == dtype
    np.testing.assert_allclose(turned, oracle.rotary(x.astype("float64"), np.arange(T)[None]), atol=5e-3)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
LONG = {"rope_type": "longrope", "factor": 32.0, "original_max_position_embeddings": 2048}
FACTORS = {"short_factor": 1.5, "long_factor": 40.0}
LLAMA = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "default"},
        {"type": "linear", "factor": 2.0},
        {"rope_type": "ntk", "factor": 8},
        {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 2048},
        YARN,
        {**YARN, "truncate": False, "beta_fast": 16, "beta_slow": 2, "mscale": None},
        {**YARN, "attention_factor": 0.8},
        {**YARN, "mscale": 0.7, "mscale_all_dim": 0.9},
        {"rope_type": "llama3", "factor": 8.0, **LLAMA},
        LONG,
        {**LONG, "factor": None, "attention_factor": 1.3},
    ],
    ids=str,
)
@pytest.mark.parametrize(("dim", "base"), [(128, 10000.0), (96, 500000.0)])
def test_frequencies_equal_oracle(dim, base, scaling):
    if scaling["rope_type" if "rope_type" in scaling else "type"] == "longrope":
        scaling = {**scaling, **{name: np.linspace(1, last, dim // 2).tolist() for name, last in FACTORS.items()}}
    lengths = np.array([100, 2048, 2049, 30000])
    positions = np.stack([lengths - 1, lengths // 2], axis=1)
    frequencies, amplitude = rotary_frequencies(dim, base, scaling, positions)
    truth = {"rope_type": scaling.get("type"), **{k: v for k, v in scaling.items() if k != "type" and v is not None}}
    for row, length in enumerate(lengths):
        expected, expected_amplitude = oracle.rotary_frequencies(dim, base, length, **truth)
        found = np.broadcast_to(frequencies, (len(lengths), 1, 1, dim // 2))[row, 0, 0]
        np.testing.assert_allclose(found, expected, rtol=2e-6)
    np.testing.assert_allclose(amplitude, expected_amplitude, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"long_factor": [1.0]}, "`scaling` must have a list of 2 numbers as 'long_factor'"),
        ({"long_factor": [1.0, "2"]}, "positive numbers, for 'long_factor'"),
        ({"factor": None}, "must have 'factor' or 'attention_factor'"),
    ],
)
def test_longrope_refuses(change, message):
    scaling = {**LONG, "short_factor": [1.0, 1.0], "long_factor": [1.0, 2.0]}
    RotaryPositionEncoding(scaling=scaling)
    with pytest.raises(ValueError, match=message):
        RotaryPositionEncoding(scaling={**scaling, **change})


def test_rotary_multiplies_by_the_amplitude():
    x, positions = heads(), np.arange(T)[None]
    scaling = {**YARN, "factor": 1.0, "attention_factor": 0.5}
    expected = rotary(x, positions, rotary_dim=8) * np.where(np.arange(H) < 8, 0.5, 1.0)
    np.testing.assert_allclose(rotary(x, positions, rotary_dim=8, scaling=scaling), expected, atol=1e-6)


def test_two_channels_have_one_frequency_whatever_stretches_them():
    for kind in ("ntk", "dynamic"):
        own = {"original_max_position_embeddings": 3} if kind == "dynamic" else {}
        frequencies, _ = rotary_frequencies(2, scaling={"rope_type": kind, "factor": 4.0, **own}, positions=[[9]])
        np.testing.assert_array_equal(frequencies, np.ones_like(frequencies))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 8), st.data())
def test_grid_cells(width, num_prefix, row, data):
    column = data.draw(st.integers(0, width - 1))
    position = np.array([[num_prefix + row * width + column, num_prefix - 1]])
    rows, columns, inside = (np.asarray(x) for x in grid_cells(position, width, num_prefix))
    assert (rows[0, 0], columns[0, 0], inside[0, 0]) == (row, column, True)
    assert (rows[0, 1], columns[0, 1], inside[0, 1]) == (0, 0, False)


@pytest.mark.parametrize("max_distance", [1, 4, 30])
@pytest.mark.parametrize("shared", [True, False])
def test_products_with_a_table_of_distances(shared, max_distance):
    rng, S = np.random.default_rng(0), 7
    table = rng.normal(size=(2 * max_distance + 1, H)).astype("float32")
    queries, weights = heads(), rng.random((B, N, T, S)).astype("float32")
    query_positions, key_positions = rng.integers(0, 20, (1 if shared else B, T)), rng.integers(0, 20, (B, S))
    logits = relative_logits(queries, table, query_positions, key_positions)
    values = relative_values(weights, table, query_positions, key_positions)
    assert logits.shape == (B, N, T, S)
    for b in range(B):
        distance = key_positions[b] - query_positions[0 if shared else b][:, None]
        rows = table.astype("float64")[np.clip(distance, -max_distance, max_distance) + max_distance]
        np.testing.assert_allclose(logits[b], np.einsum("nth,tsh->nts", queries[b], rows), atol=1e-5)
        np.testing.assert_allclose(values[b], np.einsum("nts,tsh->nth", weights[b], rows), atol=1e-5)


def test_one_query_and_as_many_keys_as_heads():
    """Sizes at which `keras.ops.add` would take the keys' axis for that of the heads."""
    rng = np.random.default_rng(0)
    table, queries = rng.normal(size=(9, H)).astype("float32"), heads()[:, :, :1]
    logits = relative_logits(queries, table, np.array([[1]]), np.arange(N)[None])
    rows = table.astype("float64")[np.clip(np.arange(N) - 1, -4, 4) + 4]
    np.testing.assert_allclose(logits, np.einsum("bnth,sh->bnts", queries, rows), atol=1e-5)
