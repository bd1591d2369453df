"""How an attention cell makes its attention vector, and cells of several attentions over one memory or several."""

from functools import partial

import keras
import numpy as np
import oracle
import pytest
from harness import LayerCase, build, pairs, run_check
from harness_export import check_export
from samples import DV, D, lengths, normal, with_memory

from keras_attn.layers import AdditiveAttention, AttentionCell, AttentionRNN, LuongAttention, recording

U, A = 5, 11
CARRIED = {
    "fully_masked": "the cell still has an output if the context is zero",
    "lora": "Keras' cells support neither",
    "int8": "Keras' cells support neither",
}
RELU = oracle.ACTIVATIONS["relu"]


def decoder(several=True, layer=None, dtype=None, cell=None, **config):
    if cell is None:
        attention = LuongAttention("general", dtype=dtype)
        attention = [attention, AdditiveAttention(A, dtype=dtype)] if several else attention
        if layer is not None:
            config["attention_layer"] = layer(dtype=dtype)
        cell = AttentionCell(keras.layers.GRUCell(U, dtype=dtype), attention, dtype=dtype, **config)
    return AttentionRNN(cell, dtype=dtype)


def dense(dtype=None):
    return keras.layers.Dense(7, "relu", dtype=dtype)


def two_networks(dtype=None):
    return [keras.layers.Dense(width, "relu", use_bias=False, dtype=dtype) for width in (3, 4)]


def two_memories(rng, B, T, S):
    """The second memory is longer and narrower, and padded elsewhere."""
    first = with_memory(rng, B, T, S)
    second = normal(rng, B, S + 2, D)
    masks = first["memory_mask"], lengths(B, S + 2)[::-1]
    return {**first, "memory": (first["memory"], second), "memory_mask": masks}


def scored(rng, B, T, S, inputs=two_memories):
    return {**inputs(rng, B, T, S), "return_attention_scores": True, "return_state": True}


def truth(weights, inputs, memory, inputs_mask, memory_mask, several=True, first=False, vectors=None, **returned):
    """A GRU with general and, where there are several, additive attention.

    `vectors(output, contexts, weights)` makes the attention vector.
    """
    cell, general, weights = weights[:3], weights[3], weights[4:]
    v, w, b, u = weights[:4] if several else [None] * 4
    weights = weights[4:] if several else weights
    memories = memory if isinstance(memory, tuple) else [memory] * 2
    masks = memory_mask if isinstance(memory_mask, tuple) else [memory_mask] * 2

    def attend(query):
        energies = [np.einsum("bd,bsd->bs", query, memories[0] @ general)]
        if several:
            energies.append(np.tanh((query @ w + b)[:, None] + memories[1] @ u) @ v[:, 0])
        scores = [oracle.masked_softmax(e, m) for e, m in zip(energies, masks, strict=False)]
        return [np.einsum("bs,bsd->bd", a, m) for a, m in zip(scores, memories, strict=False)], scores

    def step(x, states):
        h, fed = states
        if first:
            contexts, scores = attend(fed)
            output, (h,) = oracle.gru_step(cell, np.concatenate([x, *contexts], -1), (h,))
        else:
            output, (h,) = oracle.gru_step(cell, np.concatenate([x, fed], -1), (h,))
            contexts, scores = attend(output)
        vector = None if vectors is None else vectors(output, contexts, weights)
        fed = output if first else np.concatenate(contexts, -1) if vector is None else vector
        output = np.concatenate([output, *contexts], -1) if vector is None else vector
        return np.concatenate([output, *scores], -1), (h, fed)

    contexts = sum(m.shape[-1] for m in memories[: 1 + several])
    width = U + contexts if vectors is None else 7
    fed = U if first else contexts if vectors is None else 7
    batch = len(inputs)
    outputs, states = oracle.recurrence(step, inputs, inputs_mask, (np.zeros((batch, U)), np.zeros((batch, fed))))
    if not returned:
        return outputs[..., :width]
    scores = outputs[..., width:]
    scores = scores[..., : memories[0].shape[1]], scores[..., memories[0].shape[1] :]
    return outputs[..., :width], scores, states


def one_vector(activation):
    def vectors(output, contexts, weights):
        kernel, *bias = weights
        return activation(np.concatenate([output, *contexts], -1) @ kernel + (bias[0] if bias else 0))

    return vectors


def one_each(activation):
    def vectors(output, contexts, weights):
        pairs = zip(contexts, weights, strict=True)
        return np.concatenate([activation(np.concatenate([output, c], -1) @ kernel) for c, kernel in pairs], -1)

    return vectors


def case(name, make, expected, inputs=with_memory):
    names = ("memory_0", "memory_1") if "memories" in name else ("memory",)
    masks = {"inputs": "inputs_mask", **{n: n.replace("memory", "memory_mask") for n in names}}
    return LayerCase(name, make, inputs, expected, masks, exempt=CARRIED)


CASES = [
    case(
        "linear_vector",
        partial(decoder, several=False, attention_dim=7, attention_activation=None),
        partial(truth, several=False, vectors=one_vector(lambda x: x)),
    ),
    case(
        "own_layer",
        partial(decoder, several=False, layer=dense),
        partial(truth, several=False, vectors=one_vector(RELU)),
    ),
    case(
        "own_layer_first",
        partial(decoder, several=False, layer=dense, attend_first=True),
        partial(truth, several=False, first=True, vectors=one_vector(RELU)),
    ),
    case("several", decoder, truth),
    case("several_first", partial(decoder, attend_first=True), partial(truth, first=True)),
    case(
        "several_vectors",
        partial(decoder, attention_dim=[3, 4], attention_activation=None),
        partial(truth, vectors=one_each(lambda x: x)),
    ),
    case(
        "several_layers_memories",
        partial(decoder, layer=two_networks),
        partial(truth, vectors=one_each(RELU)),
        two_memories,
    ),
    case(
        "one_vector_memories",
        partial(decoder, attention_dim=7),
        partial(truth, vectors=one_vector(np.tanh)),
        scored,
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


def by_name(name):
    (case,) = [case for case in CASES if case.name == name]
    return build(case)


@pytest.mark.parametrize("name", ["own_layer", "several", "one_vector_memories"])
def test_pieces_and_keras_rnn_are_the_whole_sequence(name):
    layer, arguments = by_name(name)
    x, mask = arguments["inputs"], arguments["inputs_mask"]
    expected, states = layer(**{**arguments, "return_attention_scores": False, "return_state": True})
    memory = layer.project_memory(arguments["memory"])
    options = {"memory_cache": memory, "memory_mask": arguments["memory_mask"], "return_state": True}
    first, middle = layer(x[:, :2], inputs_mask=mask[:, :2], **options)
    last, after = layer(x[:, 2:], inputs_mask=mask[:, 2:], states=middle, **options)
    np.testing.assert_allclose(np.concatenate([first, last], axis=1), expected, atol=1e-6)

    rnn = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True, zero_output_for_mask=True)
    start = layer.cell.initial_states(arguments["memory"], arguments["memory_mask"])
    output, *rest = rnn(x, initial_state=start, mask=mask)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert len(rest) == len(rnn.state_size)
    for actual, state in zip((*after, *rest), (*states, *states), strict=False):
        np.testing.assert_allclose(actual, state, atol=1e-6)


def test_the_scores_of_each_attention_are_recorded():
    layer, arguments = by_name("one_vector_memories")
    _, scores, _ = layer(**arguments)
    with recording() as records:
        layer(**arguments)
    assert list(records) == [attention.path for attention in layer.cell.attentions]
    for recorded, weights in zip(records.values(), scores, strict=True):
        np.testing.assert_array_equal(recorded, weights[:, None])


def test_a_vector_of_the_users_own_function():
    layer = decoder(several=False, attention_dim=7, attention_activation=lambda x: 2 * x)
    plain = decoder(several=False, attention_dim=7, attention_activation=None, input_feeding=False)
    rng = np.random.default_rng(0)
    x, memory = normal(rng, 2, 1, D), normal(rng, 2, 4, DV)
    plain(x, memory), layer(x, memory)
    # A single step is fed zeros.
    kernel, *rest = plain.get_weights()
    layer.set_weights([np.concatenate([kernel, np.zeros((7, kernel.shape[1]))]), *rest])
    np.testing.assert_allclose(layer(x, memory), 2 * plain(x, memory), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": []}, "`attention` must be an Alignment layer, or a list of them"),
        ({"attention": [LuongAttention(), 3]}, "`attention` must be an Alignment layer, or a list of them"),
        ({"attention_dim": [3]}, "`attention_dim` must not be a list unless `attention` is a list"),
        ({"attention": [LuongAttention()], "attention_dim": [3, 4]}, "`attention_dim` must not be a list"),
        ({"attention_layer": 3}, "`attention_layer` must be a Keras layer"),
        ({"attention_layer": [dense()]}, "`attention_layer` must not be a list"),
        ({"attention_layer": dense(), "attention_dim": 3}, "`attention_layer` replaces `attention_dim`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AttentionCell(**{"cell": keras.layers.GRUCell(U), "attention": LuongAttention(), **arguments})


def test_bad_memories():
    layer, x = decoder(), np.ones((2, 3, D), "float32")
    memory = np.ones((2, 4, DV), "float32")
    with pytest.raises(ValueError, match=r"one entry for each of the 2 attentions\. Received: 3"):
        layer(x, (memory, memory, memory))
    with pytest.raises(ValueError, match="`memory_mask` must have shape"):
        layer(x, (memory, memory[:, :3]), memory_mask=(None, np.ones((2, 4), bool)))
