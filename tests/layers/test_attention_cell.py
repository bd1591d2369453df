"""Recurrent attention: the contract, single steps against whole sequences, and life inside `keras.layers.RNN`."""

from functools import partial

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from harness import LayerCase, build, pairs, run_check
from harness_export import check_export
from samples import DV, D, lengths, normal, with_memory

from keras_attn.layers import (
    AdditiveAttention,
    AttentionCell,
    AttentionRNN,
    LocationSensitiveAttention,
    LuongAttention,
    MonotonicAttention,
    Recurrence,
    recording,
)

U, A = 5, 11
CARRIED = {
    "fully_masked": "the cell still has an output if the context is zero, which a separate test checks",
    "lora": "Keras' cells support neither",
    "int8": "Keras' cells support neither",
}


def lstm(dtype=None, units=U):
    return keras.layers.LSTMCell(units, dtype=dtype)


def gru(dtype=None, units=U):
    return keras.layers.GRUCell(units, dtype=dtype)


def stack(dtype=None):
    return keras.layers.StackedRNNCells([gru(dtype), lstm(dtype, 3)], dtype=dtype)


def location(dtype=None):
    return LocationSensitiveAttention(A, 3, 3, cumulative=True, dtype=dtype)


def monotonic(dtype=None):
    return MonotonicAttention(AdditiveAttention(A, dtype=dtype), hard=False, dtype=dtype)


def general(dtype=None):
    return LuongAttention("general", dtype=dtype)


def attention_rnn(inner=lstm, attention=general, dtype=None, cell=None, **config):
    if cell is None:
        cell = AttentionCell(inner(dtype=dtype), attention(dtype=dtype), dtype=dtype, **config)
    return AttentionRNN(cell, dtype=dtype)


def bare(rng, B, T, S):
    return {"sequences": normal(rng, B, T, D), "mask": lengths(B, T)}


def started(rng, B, T, S):
    state = (normal(rng, B, U), normal(rng, B, U))
    return {**with_memory(rng, B, T, S), "cell_state": state, "return_attention_scores": True, "return_state": True}


def take(weights, count):
    taken, weights[:] = weights[:count], weights[count:]
    return taken


def inner_step(kind, weights):
    """`step(x, states)` of a cell that takes its weights from the front of the list."""
    if kind == "stack":
        first, second = inner_step("gru", weights), inner_step("lstm", weights)

        def step(x, states):
            x, lower = first(x, states[:1])
            x, upper = second(x, states[1:])
            return x, (*lower, *upper)

        return step
    return partial({"lstm": oracle.lstm_step, "gru": oracle.gru_step}[kind], take(weights, 3))


def sizes(kind):
    return {"lstm": (U, U), "gru": (U,), "stack": (U, 3, 3)}[kind]


def attend(kind, weights):
    """`attend(query, memory, mask, past)` gives weights `(B, S)` from the sum of those of the queries before."""
    if kind == "general":
        (w,) = take(weights, 1)
        return lambda query, memory, mask, past: oracle.masked_softmax(np.einsum("bd,bsd->bs", query, memory @ w), mask)
    v, *f = take(weights, 2 if kind == "location" else 1)
    w, b, u = take(weights, 3)
    dense = take(weights, 1)

    def weigh(query, memory, mask, past):
        hidden = (query @ w + b)[:, None] + memory @ u
        if kind == "location":
            around = np.pad(past, ((0, 0), (1, 1)))
            features = sum(around[:, k : k + past.shape[1], None] * f[0][k, 0] for k in range(3))
            hidden = hidden + features @ dense[0]
        return oracle.masked_softmax(np.tanh(hidden) @ v[:, 0], mask)

    return weigh


def rnn_oracle(
    weights,
    inputs,
    memory,
    inputs_mask,
    memory_mask,
    cell_state=None,
    kind="lstm",
    attention="general",
    first=False,
    feeding=True,
    vector=False,
    return_attention_scores=False,
    return_state=False,
):
    weights = list(weights)
    run, weigh = inner_step(kind, weights), attend(attention, weights)
    batch, length = memory.shape[:2]
    states = tuple(np.zeros((batch, size)) for size in sizes(kind)) if cell_state is None else cell_state
    if first:
        fed = states[1 if kind == "stack" else 0]
    else:
        fed = np.zeros((batch, weights[0].shape[1] if vector else memory.shape[-1]))
    past, scores = np.zeros((batch, length)), np.zeros((*inputs.shape[:2], length))
    memory_mask = np.broadcast_to(memory_mask, (batch, length))

    def step(x, states):
        *cell, fed, past = states
        if first:
            alignment = weigh(fed, memory, memory_mask, past)
            context = np.einsum("bs,bsd->bd", alignment, memory)
            x = np.concatenate([x, context], -1) if feeding else x
        else:
            x = np.concatenate([x, fed], -1) if feeding else x
        output, cell = run(x, cell)
        hidden = output
        if not first:
            alignment = weigh(output, memory, memory_mask, past)
            context = np.einsum("bs,bsd->bd", alignment, memory)
        output = np.concatenate([output, context], -1)
        output = np.tanh(output @ weights[0]) if vector else output
        return np.concatenate([output, alignment], -1), (
            *cell,
            hidden if first else output if vector else context,
            past + alignment,
        )

    outputs, states = oracle.recurrence(step, inputs, inputs_mask, (*states, fed, past))
    outputs, scores = outputs[..., :-length], outputs[..., -length:]
    results = [outputs]
    if return_attention_scores:
        results.append(scores)
    if return_state:
        results.append(states if attention == "location" else states[:-1])
    return results[0] if len(results) == 1 else tuple(results)


def monotonic_rnn_oracle(weights, inputs, memory, inputs_mask, memory_mask):
    *cell, r, v, w, b, u = weights

    def weigh(query, memory, mask, previous):
        energies = np.tanh((query @ w + b)[:, None] + memory @ u) @ v[:, 0] + r
        return np.stack(
            [oracle.soft_monotonic(*row) for row in zip(energies, mask, ([p] for p in previous), strict=True)]
        )

    def step(x, states):
        h, fed, previous = states
        output, (h,) = oracle.gru_step(cell, np.concatenate([x, fed], -1), (h,))
        alignment = weigh(output, memory, memory_mask, previous)
        context = np.einsum("bs,bsd->bd", alignment, memory)
        return np.concatenate([output, context], -1), (h, context, alignment)

    batch, length, width = memory.shape
    start = np.zeros((batch, U)), np.zeros((batch, width)), np.eye(length)[np.zeros(batch, int)]
    return oracle.recurrence(step, inputs, inputs_mask, start)[0]


def case(name, make, truth, inputs=with_memory, bad=()):
    return LayerCase(name, make, inputs, truth, {"inputs": "inputs_mask", "memory": "memory_mask"}, bad, CARRIED)


def recurrence_case(name, inner, kind, **config):
    def truth(weights, sequences, mask):
        states = tuple(np.zeros((len(sequences), size)) for size in sizes(kind))
        backwards = config.get("go_backwards", False)
        step = inner_step(kind, list(weights))
        turn = slice(None, None, -1 if backwards else 1)
        outputs, states = oracle.recurrence(step, sequences[:, turn], mask[:, turn], states)
        if not config.get("return_sequences"):
            return states[0]
        return (outputs, *states) if config.get("return_state") else outputs

    def make(dtype=None, cell=None, **others):
        return Recurrence(inner(dtype=dtype) if cell is None else cell, dtype=dtype, **{**config, **others})

    masks = {"sequences": "mask"} if config.get("return_sequences") and not config.get("go_backwards") else {}
    return LayerCase(name, make, bare, truth, masks, exempt=CARRIED)


BAD = (
    ({"memory": np.ones((2, DV), "float32")}, "`memory`|`value`|memory_mask"),
    ({"memory": None}, "`memory`"),
    ({"memory_mask": np.ones((2, 4), "bool")}, "`memory_mask`"),
    ({"inputs_mask": np.ones((2, 4), "bool")}, "`inputs_mask`"),
    ({"cell": 3}, "`cell`"),
)

CASES = [
    recurrence_case("recurrence_lstm", lstm, "lstm", return_sequences=True, return_state=True),
    recurrence_case("recurrence_gru", gru, "gru", return_sequences=True),
    recurrence_case("recurrence_backwards", gru, "gru", return_sequences=True, go_backwards=True),
    recurrence_case("recurrence_last", gru, "gru"),
    case("luong", partial(attention_rnn, attention_dim=7), partial(rnn_oracle, vector=True), bad=BAD),
    case("luong_states", partial(attention_rnn, attention_dim=7), partial(rnn_oracle, vector=True), started),
    case("luong_unfed", partial(attention_rnn, input_feeding=False), partial(rnn_oracle, feeding=False)),
    case(
        "bahdanau",
        partial(attention_rnn, gru, partial(AdditiveAttention, A), attend_first=True),
        partial(rnn_oracle, kind="gru", attention="additive", first=True),
    ),
    case(
        "bahdanau_vector",
        partial(attention_rnn, attention_dim=7, attend_first=True),
        partial(rnn_oracle, vector=True, first=True),
    ),
    case("stack", partial(attention_rnn, stack), partial(rnn_oracle, kind="stack")),
    case(
        "stack_first", partial(attention_rnn, stack, attend_first=True), partial(rnn_oracle, kind="stack", first=True)
    ),
    case(
        "location",
        partial(attention_rnn, attention=location),
        partial(rnn_oracle, attention="location"),
        started,
    ),
    case("monotonic", partial(attention_rnn, gru, monotonic), monotonic_rnn_oracle),
]
ATTENTIVE = [case for case in CASES if "memory" in case.masks]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


def by_name(name):
    (case,) = [case for case in CASES if case.name == name]
    return build(case)


@pytest.mark.parametrize("options", [{}, {"attention_dim": A}, {"attention_layer": keras.layers.Dense(A)}])
def test_output_shape_of_a_cell(options):
    cell = AttentionCell(lstm(), AdditiveAttention(3), **options)
    x, memory = np.ones((2, D), "float32"), np.ones((2, 7, DV), "float32")
    states = cell.initial_states(memory)
    shapes = cell.compute_output_shape(x.shape, [tuple(state.shape) for state in states])
    cell.build(x.shape)
    assert shapes == keras.tree.map_structure(lambda y: tuple(y.shape), cell(x, states))


@pytest.mark.parametrize("case", ATTENTIVE, ids=lambda case: case.name)
def test_a_sequence_in_pieces_is_the_whole(case):
    layer, arguments = build(case)
    x, mask = arguments["inputs"], arguments["inputs_mask"]
    whole = {**arguments, "return_attention_scores": True, "return_state": True}
    expected, expected_scores, expected_states = layer(**whole)
    keys, memory = layer.project_memory(arguments["memory"])
    states = layer.start(keys, memory, arguments.get("cell_state"))
    options = {"memory_cache": (keys, memory), "memory_mask": arguments["memory_mask"]}
    options |= {"return_attention_scores": True, "return_state": True}
    pieces = []
    for start, stop in ((0, 1), (1, 4), (4, 5)):
        *piece, states = layer(x[:, start:stop], inputs_mask=mask[:, start:stop], states=states, **options)
        pieces.append(piece)
    for actual, whole in zip(zip(*pieces, strict=True), (expected, expected_scores), strict=True):
        np.testing.assert_allclose(np.concatenate(actual, axis=1), whole, atol=1e-6)
    for actual, whole in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(actual, whole, atol=1e-6)


@pytest.mark.parametrize("case", ATTENTIVE, ids=lambda case: case.name)
@pytest.mark.parametrize("unroll", [False, True])
def test_keras_rnn_runs_the_cell(case, unroll):
    layer, arguments = build(case)
    expected, states = layer(**{**arguments, "return_attention_scores": False, "return_state": True})
    rnn = keras.layers.RNN(
        layer.cell, return_sequences=True, return_state=True, zero_output_for_mask=True, unroll=unroll
    )
    start = layer.cell.initial_states(arguments["memory"], arguments["memory_mask"], arguments.get("cell_state"))
    output, *rest = rnn(arguments["inputs"], initial_state=start, mask=arguments["inputs_mask"])
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert len(rest) == len(rnn.state_size) == len(states) + 3
    for actual, state in zip(rest, states, strict=False):
        np.testing.assert_allclose(actual, state, atol=1e-6)


def test_a_new_cell_is_built_by_its_first_memory():
    cell = AttentionCell(lstm(), AdditiveAttention(A), attention_dim=7)
    with pytest.raises(ValueError, match="`initial_state` must come from `initial_states"):
        keras.layers.RNN(cell)(np.ones((2, 3, D), "float32"))
    states = cell.initial_states(np.ones((2, 4, DV), "float32"))
    assert keras.layers.RNN(cell)(np.ones((2, 3, D), "float32"), initial_state=states).shape == (2, 7)


@pytest.mark.parametrize("name", ["luong", "location", "monotonic"])
def test_scores_are_recorded(name):
    layer, arguments = by_name(name)
    _, scores, *_ = layer(**{**arguments, "return_attention_scores": True})
    with recording() as records:
        layer(**arguments)
    assert list(records) == [layer.cell.attention.path]
    np.testing.assert_array_equal(records[layer.cell.attention.path], scores[:, None])
    real = arguments["inputs_mask"]
    assert not np.any(scores * ~arguments["memory_mask"][:, None])
    if name != "monotonic":
        np.testing.assert_allclose(np.sum(scores, axis=-1), real, atol=1e-5)


@pytest.mark.parametrize("name", ["bahdanau", "luong_unfed"])
def test_a_memory_of_padding_has_a_context_of_zero(name):
    layer, arguments = by_name(name)
    arguments["memory_mask"] = np.stack([np.zeros(7, bool), np.ones(7, bool)])
    memory = tf.constant(arguments["memory"])
    with tf.GradientTape() as tape:
        tape.watch(memory)
        output = layer(**{**arguments, "memory": memory})
    gradient = tape.gradient(output, memory)
    np.testing.assert_array_equal(output[0, :, U:], 0)
    assert np.any(output[0, :, :U])
    np.testing.assert_array_equal(gradient[0], 0)
    assert np.any(gradient[1])


@pytest.mark.parametrize("dropout", ["dropout", "recurrent_dropout"])
def test_dropout_of_the_wrapped_cell_changes_from_call_to_call(dropout):
    cell = AttentionCell(keras.layers.LSTMCell(U, **{dropout: 0.5}), AdditiveAttention(A))
    layer = AttentionRNN(cell)
    rng = np.random.default_rng(0)
    x, memory = normal(rng, 2, 5, D), normal(rng, 2, 7, DV)
    expected = layer(x, memory)
    call = tf.function(lambda: layer(x, memory, training=True), autograph=False)
    one, other = call(), call()
    assert np.abs(one - other).max() > 1e-3
    # Traced anew: nothing of the first graph may be left in the cell.
    again = tf.function(lambda: layer(x, memory, training=True), autograph=False)()
    assert np.all(np.isfinite(again))
    np.testing.assert_allclose(layer(x, memory), expected, atol=1e-6)


def test_an_alignment_with_noise_trains_in_a_graph():
    cell = AttentionCell(gru(), MonotonicAttention(AdditiveAttention(A), noise=1.0, dropout=0.1))
    inputs = {"x": keras.Input((None, D), name="x"), "memory": keras.Input((None, DV), name="memory")}
    model = keras.Model(inputs, AttentionRNN(cell)(inputs["x"], inputs["memory"]))
    rng = np.random.default_rng(0)
    data = {"x": normal(rng, 4, 5, D), "memory": normal(rng, 4, 7, DV)}
    before = model.get_weights()
    for jit_compile in (False, True):
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        loss = model.fit(data, np.zeros((4, 5, U + DV)), batch_size=4, verbose=0).history["loss"]
        assert np.isfinite(loss[0])
    assert all(np.any(a != b) for a, b in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": 3}, "`cell` must be a Keras RNN cell"),
        ({"attention": keras.layers.Attention()}, "`attention` must be an Alignment"),
        ({"attention_dim": 0}, "`attention_dim` must be a positive integer"),
    ],
)
def test_bad_cells(arguments, message):
    with pytest.raises(ValueError, match=message):
        AttentionCell(**{"cell": lstm(), "attention": LuongAttention(), **arguments})


def test_cell_state_and_states_exclude_each_other():
    layer, arguments = by_name("luong_states")
    *_, states = layer(**arguments)
    with pytest.raises(ValueError, match="`cell_state` must be None"):
        layer(**arguments, states=states)
