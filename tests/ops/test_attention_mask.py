import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.ops import AttentionMask


@st.composite
def specs(draw):
    """Arguments of an `AttentionMask`, each at random there or not."""
    B, N, T, S = (draw(st.integers(1, n)) for n in (2, 2, 4, 5))

    def arrays(elements, *shape):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(elements, min_size=size, max_size=size))).reshape(shape)

    def maybe(make):
        return make() if draw(st.booleans()) else None

    rows = draw(st.sampled_from([1, B]))
    key_positions = arrays(st.integers(0, 6), rows, S)
    # Whoever asks for a causal mask has a first key.
    key_positions[:, 0] = 0
    segments = draw(st.booleans())
    arguments = {
        "query_positions": arrays(st.integers(0, 6), draw(st.sampled_from([1, B])), T),
        "key_positions": key_positions,
        "causal": draw(st.booleans()),
        "window": draw(st.none() | st.integers(1, 4)),
        "query_mask": maybe(lambda: arrays(st.booleans(), B, T)),
        "key_mask": maybe(lambda: arrays(st.booleans(), B, S)),
        "query_segments": arrays(st.integers(0, 1), B, T) if segments else None,
        "key_segments": arrays(st.integers(0, 1), B, S) if segments else None,
        "explicit": maybe(lambda: arrays(st.booleans(), B, draw(st.sampled_from([1, N])), T, S)),
    }
    return arguments, (B, N, T, S)


def may_attend(arguments, b, n, t, s):
    def at(name, *index):
        array = arguments[name]
        return array[tuple(min(i, size - 1) for i, size in zip(index, array.shape, strict=True))]

    query, key = at("query_positions", b, t), at("key_positions", b, s)
    return (
        (not arguments["causal"] or key <= query)
        and (arguments["window"] is None or abs(key - query) < arguments["window"])
        and (arguments["query_mask"] is None or at("query_mask", b, t))
        and (arguments["key_mask"] is None or at("key_mask", b, s))
        and (arguments["query_segments"] is None or at("query_segments", b, t) == at("key_segments", b, s))
        and (arguments["explicit"] is None or at("explicit", b, n, t, s))
    )


@settings(max_examples=150, deadline=None)
@given(specs())
def test_equals_its_rules_one_pair_at_a_time(spec):
    arguments, shape = spec
    expected = np.array([may_attend(arguments, *index) for index in itertools.product(*map(range, shape))])
    expected = expected.reshape(shape)
    mask = AttentionMask(**arguments)
    materialized, unmasked = mask.materialize(), mask.unmasked_queries()
    if materialized is None:
        assert expected.all()
    else:
        assert len(materialized.shape) == 4
        assert materialized.dtype == bool
        np.testing.assert_array_equal(np.broadcast_to(materialized, shape), expected)
    if unmasked is None:
        assert expected.any(axis=-1).all()
    else:
        unmasked = np.broadcast_to(unmasked, (*shape[:3], 1))
        np.testing.assert_array_equal(unmasked[..., 0], expected.any(axis=-1))


def test_nothing_asked_costs_nothing():
    mask = AttentionMask(query_positions=np.arange(5)[None], key_positions=np.arange(7)[None])
    assert mask.materialize() is None
    assert mask.unmasked_queries() is None


@pytest.mark.parametrize("argument", ["query_mask", "key_mask"])
def test_padding_stays_small(argument):
    """A padding mask alone is never spread over T x S."""
    mask = AttentionMask(**{argument: np.ones((2, 5), "bool")})
    assert np.prod(mask.materialize().shape) == 10
    assert np.prod(mask.unmasked_queries().shape) <= 10


@pytest.mark.parametrize("rules", [{}, {"causal": True}, {"window": 2}, {"causal": True, "window": 3}])
def test_who_sees_itself_is_alive(rules):
    rng = np.random.default_rng(0)
    positions, real = np.arange(9)[None], rng.random((2, 9)) < 0.5
    segments = np.sort(rng.integers(0, 3, (2, 9)), axis=1)
    fields = {"query_positions": positions, "query_mask": real, "query_segments": segments}
    own = AttentionMask(**fields, key_positions=positions, key_mask=real, key_segments=segments, **rules)
    copies = {"key_positions": positions.copy(), "key_mask": real.copy(), "key_segments": segments.copy()}
    general = AttentionMask(**fields, **copies, **rules)
    np.testing.assert_array_equal(own.unmasked_queries(), general.unmasked_queries())
    assert "pairs" not in vars(own)
    assert "pairs" in vars(general)


@settings(max_examples=100, deadline=None)
@given(specs(), st.data())
def test_blocks_are_parts_of_the_whole(spec, data):
    arguments, sizes = spec
    whole = AttentionMask(**arguments)
    parts = [
        (start, data.draw(st.integers(1, n - start))) for n in sizes for start in [data.draw(st.integers(0, n - 1))]
    ]
    rows, heads, queries, keys = parts
    expected, actual = (mask.materialize() for mask in (whole, whole.block(queries, keys, rows, heads)))
    if expected is None:
        assert actual is None
        return
    expected = np.broadcast_to(expected, sizes)[tuple(slice(start, start + n) for start, n in parts)]
    np.testing.assert_array_equal(np.broadcast_to(actual, expected.shape), expected)


@settings(max_examples=50, deadline=None)
@given(specs(), st.integers(0, 3), st.integers(0, 3))
def test_extended_masks_hide_the_padding(spec, more_queries, more_keys):
    arguments, (B, N, T, S) = spec
    mask = AttentionMask(**arguments)
    padded = np.asarray(mask.extended(T + more_queries, S + more_keys, S).materialize())
    expected = mask.materialize()
    padded = np.broadcast_to(padded, (B, N, T + more_queries, S + more_keys))
    assert not padded[..., S:].any()
    expected = np.ones((B, N, T, S), "bool") if expected is None else np.broadcast_to(expected, (B, N, T, S))
    np.testing.assert_array_equal(padded[:, :, :T, :S], expected)


@settings(max_examples=50, deadline=None)
@given(specs())
def test_unmasked_queries_by_blocks(spec):
    arguments, _ = spec
    expected = AttentionMask(**arguments).unmasked_queries()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_attn.ops.attention_mask._MANY", 3)
        actual = AttentionMask(**arguments).unmasked_queries()
    if expected is None:
        assert actual is None
    else:
        np.testing.assert_array_equal(actual, expected)
