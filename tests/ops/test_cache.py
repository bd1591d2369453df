import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.ops import cache
from keras_attn.ops.target import EAGER, tracing_for

B, K, M, T, H = 2, 3, 7, 5, 11


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def test_empty():
    key, value = cache.empty(B, M, K, (H, 5), "float16")
    assert tuple(key.shape) == (B, K, M, H)
    assert tuple(value.shape) == (B, K, M, 5)
    assert key.dtype == value.dtype == "float16"
    assert not np.any(key)
    assert [tuple(x.shape) for x in cache.empty(B, M, K, H, "float32")] == [(B, K, M, H)] * 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, T), st.data())
def test_select_writes_each_row_where_its_positions_say(length, data):
    positions = np.array(
        [data.draw(st.lists(st.integers(0, M + 2), min_size=length, max_size=length, unique=True)) for _ in range(B)],
        "int32",
    )
    buffer, update = normal(B, K, M, H), normal(B, K, length, H)
    expected = buffer.copy()
    for b in range(B):
        for t, slot in enumerate(positions[b]):
            if slot < M:
                expected[b, :, slot] = update[b, :, t]
    np.testing.assert_array_equal(cache.write(buffer, update, positions), expected)


@pytest.mark.parametrize("policy", ["select", "slice", "in_place"])
@pytest.mark.parametrize("length", [1, 3])
def test_consecutive_positions(policy, length):
    buffer, update = normal(B, K, M, H), normal(B, K, length, H)
    expected = buffer.copy()
    expected[:, :, 2 : 2 + length] = update
    with tracing_for(EAGER, cache_writes=policy):
        written = cache.write(buffer, update, np.arange(2, 2 + length, dtype="int32")[None])
    np.testing.assert_array_equal(written, expected)


def test_concat_appends():
    buffer, update = normal(B, K, M, H), normal(B, K, 2, H)
    with tracing_for(EAGER, cache_writes="concat"):
        written = cache.write(buffer, update, np.array([[7, 8]], "int32"))
    np.testing.assert_array_equal(written, np.concatenate([buffer, update], axis=2))


@pytest.mark.parametrize("policy", ["select", "slice", "in_place", "concat"])
def test_a_cache_keeps_its_dtype(policy):
    buffer, update = normal(B, K, M, H).astype("float16"), normal(B, K, 1, H)
    with tracing_for(EAGER, cache_writes=policy):
        assert cache.write(buffer, update, np.zeros((1, 1), "int32")).dtype == "float16"


def test_a_scope_ends_also_when_it_fails():
    buffer, update, positions = normal(B, K, M, H), normal(B, K, 1, H), np.zeros((1, 1), "int32")

    def length():
        return cache.write(buffer, update, positions).shape[2]

    with contextlib.suppress(RuntimeError), tracing_for(EAGER, cache_writes="concat"):
        with tracing_for(EAGER, cache_writes="slice"):
            assert length() == M
        assert length() == M + 1
        raise RuntimeError
    assert length() == M


def test_unknown_ways():
    message = (
        r"`cache_writes` must be one of \['concat', 'in_place', 'select', 'slice'\]. Received: cache_writes='append'"
    )
    with pytest.raises(ValueError, match=message), tracing_for(EAGER, cache_writes="append"):
        pass


@pytest.mark.parametrize("policy", ["slice", "in_place"])
def test_slices_give_way_where_rows_are_at_different_positions(policy):
    buffer, update, positions = normal(B, K, M, H), normal(B, K, 1, H), np.array([[5], [2]], "int32")
    with tracing_for(EAGER, cache_writes=policy):
        written = cache.write(buffer, update, positions)
    np.testing.assert_array_equal(written, cache.write(buffer, update, positions))


@pytest.mark.parametrize("storage", ["float", "int8"])
@pytest.mark.parametrize("policy", ["select", "slice", "in_place", "concat"])
def test_a_packed_cache_is_that_of_its_row(policy, storage):
    buffer, update, slots = normal(1, K, M, H), normal(1, K, 2, H), np.array([[4, 5]], "int32")
    with tracing_for(EAGER, cache_writes=policy, cache_storage=storage):
        stored = cache.store(buffer)
        packed, held = cache.packed((stored, slots))
        assert {len(x.shape) for x in keras.tree.flatten(packed)} == {3}
        assert held is slots
        written = cache.write(packed, update, slots)
        assert {len(x.shape) for x in keras.tree.flatten(written)} == {3}
        expected = cache.load(cache.write(stored, update, slots), "float32")
        np.testing.assert_array_equal(cache.load(written, "float32"), expected)
        assert cache.length((written, written)) == expected.shape[2]


def test_caches_of_several_rows_are_not_packed():
    buffer = normal(B, K, M, H)
    assert cache.packed(buffer) is buffer


def test_what_is_written_in_place_was_nobody_elses():
    buffer, update = normal(B, K, M, H), normal(B, K, 1, H)

    @tf.function
    def twice(buffer):
        first = cache.write(buffer, update, np.array([[2]], "int32"))
        return buffer, first, cache.write(first, update, np.array([[4]], "int32"))

    with tracing_for(EAGER, cache_writes="in_place"):
        own = tf.constant(buffer)
        outputs = twice(own)
        eager = cache.write(own, update, np.array([[2]], "int32"))
    for slots, output in (([], own), ([], outputs[0]), ([2], outputs[1]), ([2, 4], outputs[2]), ([2], eager)):
        expected = buffer.copy()
        expected[:, :, slots] = update
        np.testing.assert_array_equal(output, expected)
