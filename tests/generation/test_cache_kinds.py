"""What a cache keeps: windows that bound it, int8, and where its slots are."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from model_checks import generated, scattered

from keras_attn import GenerationConfig, LanguageModel, Transformer
from keras_attn.models import Seq2SeqRNN
from keras_attn.ops import cache_slots
from keras_attn.ops.target import EAGER, Target, tracing_for

V, WINDOW, SINKS = 23, 5, 2
SIZES = {"num_layers": 2, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 13}
# Shorter than the window, as long, longer, and much longer.
LENGTHS = (1, 3, 5, 7, 13)
PROMPTS = np.where(np.arange(13) < np.array(LENGTHS)[:, None], np.random.default_rng(5).integers(1, V, (5, 13)), 0)
# Many more tokens than a window has.
CONFIG = GenerationConfig(24, end_id=0).resolved()

WINDOWS = {
    "window": {"attention_options": {"window": WINDOW}},
    "sink_tokens": {"attention_options": {"window": WINDOW, "sink_tokens": SINKS}},
    "mixed": {"layer_options": [{"window": WINDOW}, {}]},
    "two_windows": {"layer_options": [{"window": WINDOW}, {"window": 3}]},
}
OTHERS = {
    "language_model": lambda: LanguageModel(V, **SIZES, tie_output=False),
    "transformer": lambda: Transformer(V, **SIZES, tie_output=False),
    "rnn": lambda: Seq2SeqRNN(V, 2, 12, num_bidirectional_layers=1),
}


def windowed_plain(name="sink_tokens"):
    return LanguageModel(V, **SIZES, tie_output=False, **WINDOWS[name])


def windowed(name):
    return scattered(windowed_plain(name))


def step_by_step(model, config):
    """Tokens and scores with all texts, whole, through the model for each token."""
    count, room = config.max_length, np.zeros((len(PROMPTS), config.max_length), int)
    tokens, scores, is_text = room.copy(), room.astype("float64"), isinstance(model, LanguageModel)
    for step in range(count):
        # Padded to one length, behind which causality hides; a functional model is traced once a shape.
        if is_text:
            ids, last = np.concatenate([PROMPTS, room], axis=1), np.array(LENGTHS)[:, None] + np.arange(count)
            np.put_along_axis(ids, last[:, :step], tokens[:, :step], axis=1)
            logits = model({"token_ids": ids})
            places = last[:, step] - 1
        else:
            target = np.concatenate([np.full((len(PROMPTS), 1), config.start_id), tokens[:, :-1]], axis=1)
            logits = model({"source_ids": PROMPTS, "target_ids": target})
            places = np.full(len(PROMPTS), step)
        logs = np.asarray(ops.log_softmax(logits))[np.arange(len(PROMPTS)), places]
        done = (tokens[:, :step] == config.end_id).any(axis=1)
        tokens[:, step] = np.where(done, 0, logs.argmax(axis=1))
        scores[:, step] = np.where(done, 0, logs.max(axis=1))
    return tokens, scores


def check_against_steps(model, config=CONFIG):
    outputs = model.generate(PROMPTS, config=config, return_dict=True)
    tokens, scores = step_by_step(model, config)
    np.testing.assert_array_equal(outputs["tokens"], tokens)
    np.testing.assert_allclose(outputs["scores"], scores, atol=1e-4)
    assert len(np.unique(outputs["tokens"])) > 1
    return outputs


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_leave_every_token_as_it_is(name):
    model = windowed(name)
    outputs = check_against_steps(model)
    plain = scattered(LanguageModel(V, **SIZES, tie_output=False))
    plain.set_weights(model.get_weights())
    assert (plain.generate(PROMPTS, config=CONFIG) != outputs["tokens"]).any()
    # A slot a token, as beam search has it, hides the same by positions.
    with tracing_for(EAGER):
        np.testing.assert_array_equal(generated(model, PROMPTS, CONFIG)["tokens"], outputs["tokens"])


@pytest.mark.parametrize("kind", OTHERS)
def test_a_cache_changes_no_token(kind):
    check_against_steps(scattered(OTHERS[kind]()), GenerationConfig(9, end_id=0).resolved())


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("window", (WINDOW, WINDOW)),
        ("sink_tokens", (WINDOW + 2 * SINKS, WINDOW + 2 * SINKS)),
        ("mixed", (WINDOW, 13 + 999)),
        ("two_windows", (WINDOW, 3)),
    ],
)
def test_a_window_bounds_the_cache(name, sizes):
    model = windowed(name)
    (caches, slots), memory = model.prefill(PROMPTS, length=999)
    assert memory == ()
    for (key, value), size in zip(caches, sizes, strict=True):
        assert tuple(key.shape) == tuple(value.shape) == (5, 3, size, 4)
    assert sorted(slot_positions.shape[1] for slot_positions, *_ in slots) == sorted(set(sizes))
    token, position = model.first_decoder_inputs(PROMPTS, None, 2)
    for step in range(3):
        _, (caches, slots) = model.decode(token, position + step, (caches, slots), memory)
    assert tuple(key.shape[2] for key, _ in caches) == sizes
    (caches, _), _ = model.prefill(PROMPTS, length=999, bounded=False)
    assert {key.shape[2] for key, _ in caches} == {13 + 999}


def test_several_tokens_a_call_do_not_go_with_a_window():
    model = windowed("window")
    cached, memory = model.prefill(PROMPTS, length=9)
    with pytest.raises(ValueError, match=r"`positions` must hold one token per call.*Received: shape \(5, 2\)"):
        model.decode(PROMPTS[:, :2], np.tile([[13, 14]], (5, 1)), cached, memory)


def size_in_bytes(tree):
    return sum(np.asarray(x).nbytes for x in keras.tree.flatten(tree))


# Bound of the differences between log-probabilities with int8 and float caches in these tests, with a margin.
INT8_BOUND = 0.05


@pytest.mark.parametrize("make", [OTHERS["language_model"], OTHERS["transformer"], windowed_plain])
def test_int8(make):
    model = scattered(make())
    results, sizes = {}, {}
    for kind in ("float", "int8"):
        with tracing_for(EAGER, cache_storage=kind):
            cached, memory = model.prefill(PROMPTS, None, length=24)
            token, position = model.first_decoder_inputs(PROMPTS, None, 2)
            steps = []
            for step in range(3):
                logits, cached = model.decode(token, position + step, cached, memory)
                steps.append(np.asarray(ops.log_softmax(logits)))
        results[kind], sizes[kind] = np.array(steps), cached[0]
    difference = np.abs(results["int8"] - results["float"]).max()
    assert 0 < difference < INT8_BOUND, difference
    values = [x for x in keras.tree.flatten(sizes["int8"]) if x.shape[-1] > 1]
    assert {keras.backend.standardize_dtype(x.dtype) for x in values} == {"int8"}
    assert 4 * size_in_bytes(values) == size_in_bytes(sizes["float"])
    assert size_in_bytes(sizes["int8"]) == size_in_bytes(values) * (1 + 4 / 4)
    config = GenerationConfig(24, end_id=0, cache="int8").resolved()
    tokens = model.generate(PROMPTS, config=config)
    np.testing.assert_array_equal(tokens, generated(model, PROMPTS, config)["tokens"])


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match=r"`cache` must be one of \['float', 'int8'\]\. Received: cache='int4'"):
        GenerationConfig(cache="int4")
    with pytest.raises(ValueError, match=r"`cache_storage` must be one of .*Received: cache_storage='int4'"):
        Target(cache_storage="int4")


LENGTH_LISTS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def prompt_mask(lengths):
    return np.arange(max(lengths)) < np.array(lengths)[:, None]


@settings(max_examples=30, deadline=None)
@given(LENGTH_LISTS, st.integers(1, 6), st.integers(0, 3), st.integers(0, 12))
def test_slots_of_a_window_hold_the_last_tokens_and_the_sinks(lengths, window, sinks, steps):
    mask = prompt_mask(lengths)
    slots, source = cache_slots.of_window(mask, window, sinks)
    slot_positions = np.asarray(slots[0])
    real = slot_positions < cache_slots.FAR
    np.testing.assert_array_equal(np.asarray(source)[real], slot_positions[real])
    for step in range(steps + 1):
        for row, length in zip(np.asarray(slots[0]), lengths, strict=True):
            found = sorted(x for x in row.tolist() if x < cache_slots.FAR)
            assert len(set(found)) == len(found)
            last = length + step
            needed = set(range(max(last - window, 0), last)) | set(range(min(sinks, last)))
            assert needed <= set(found) <= set(range(last))
        positions = np.array(lengths, "int32")[:, None] + step
        slots, write_slots = cache_slots.advance(slots, positions)
        np.testing.assert_array_equal(np.take_along_axis(np.asarray(slots[0]), np.asarray(write_slots), 1), positions)


@settings(max_examples=30, deadline=None)
@given(LENGTH_LISTS, st.lists(st.integers(1, 3), max_size=4), st.integers(0, 3), st.booleans())
def test_slots_of_a_prompt_follow_one_another(lengths, counts, back, masked):
    mask = prompt_mask(lengths)
    room, width = sum(counts), mask.shape[1]
    slots = cache_slots.of_prompt(mask, room)
    expected = [[i if i < n else cache_slots.FAR for i in range(width)] for n in lengths]
    at = np.array(lengths, "int32")[:, None]
    for count in counts:
        positions = at + np.arange(count, dtype="int32")
        seen = np.arange(count) % 2 == np.arange(len(lengths))[:, None] % 2 if masked else None
        slots, write_slots = cache_slots.advance(slots, positions, seen)
        assert np.asarray(write_slots).tolist() == [list(range(len(expected[0]), len(expected[0]) + count))]
        for i, row in enumerate(expected):
            row += [int(p) if seen is None or seen[i, j] else cache_slots.FAR for j, p in enumerate(positions[i])]
        at = at + count
    back = min(back, room)
    if back:
        slots = cache_slots.rewind(slots, back)
        expected = [row[:-back] + [cache_slots.FAR] * back for row in expected]
    assert np.asarray(slots[0]).tolist() == expected
    assert int(slots[1]) == width + room - back


def test_empty_slots():
    slot_positions, next_slot = cache_slots.empty(3)
    assert (np.asarray(slot_positions) == cache_slots.FAR).all()
    assert (slot_positions.shape, int(next_slot)) == ((1, 3), 0)
    slots = cache_slots.empty(3, num_sink_tokens=1)
    for step, expected in enumerate(([0], [0, 1], [0, 1, 2], [0, 3, 2], [0, 3, 4], [0, 5, 4])):
        slots, _ = cache_slots.advance(slots, np.array([[step]], "int32"))
        assert [x for x in np.asarray(slots[0])[0].tolist() if x < cache_slots.FAR] == expected
