"""The codes that `sinusoid` adds and the turns that `rotary` makes."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.ops import rotary, sinusoid

B, N, T, H = 2, 3, 5, 12


@pytest.mark.parametrize("dim", [1, 7, 12])
@pytest.mark.parametrize("positions", [np.arange(500), np.array([[0, 3, 1], [7, 2, 2]]), np.array(11)])
def test_sinusoid_equals_oracle(positions, dim):
    for base in (10000.0, 50.0):
        code = sinusoid(positions, dim, base)
        assert code.dtype == "float32"
        np.testing.assert_allclose(code, oracle.sinusoid(positions, dim, base), atol=5e-5)


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
