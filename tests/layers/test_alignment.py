"""Alignment layers: the contract, agreement of whole sequences with single steps, and with Keras' own layers."""

from functools import partial

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from harness import LayerCase, build, pairs, run_check
from harness_export import check_export
from samples import DV, D, lengths, normal

from keras_attn.layers import (
    AdditiveAttention,
    LocationSensitiveAttention,
    LuongAttention,
    MonotonicAttention,
    recording,
)
from keras_attn.ops import soft_monotonic

U, F = 11, 3
SHARP = {"half_precision": "stopping one key earlier is not a small difference"}


def padded(rng, B, T, S, width=D, **static):
    masks = {"query_mask": lengths(B, T), "value_mask": lengths(B, S)}
    return {"query": normal(rng, B, T, D), "value": normal(rng, B, S, width), **masks, **static}


def keyed(rng, B, T, S):
    return {**padded(rng, B, T, S, 5), "key": normal(rng, B, S, DV)}


def restricted(rng, B, T, S):
    """Query 1 may attend to nothing; the others, to key `t` at least."""
    mask = ((rng.random((B, T, S)) < 0.6) | (np.arange(S) == np.arange(T)[:, None])) & (np.arange(T) != 1)[:, None]
    inputs = {"query": normal(rng, B, T, D), "value": normal(rng, B, S, DV)}
    return {**inputs, "attention_mask": mask, "return_attention_scores": True}


def all_masks(query, value, query_mask=None, value_mask=None, attention_mask=None, **others):
    mask = np.ones((*query.shape[:2], value.shape[1]), bool)
    for given in (
        None if query_mask is None else query_mask[:, :, None],
        None if value_mask is None else value_mask[:, None],
        attention_mask,
    ):
        mask &= True if given is None else given
    return mask


def results(output, scores, return_attention_scores=False, **others):
    return (output, scores) if return_attention_scores else output


def additive(weights, query, key, normalize=False):
    """`(hidden (B, T, S, U), to_energy)`, for those that add to the hidden layer. A layer's own weights come first."""
    v, *g, w, b, u = weights
    vector = v[:, 0] * (g[0] / np.linalg.norm(v) if normalize else 1)
    return (query @ w + b)[:, :, None] + (key @ u)[:, None], lambda hidden: np.tanh(hidden) @ vector


def additive_oracle(weights, query, value, key=None, normalize=False, **masks):
    hidden, energy = additive(weights, query, value if key is None else key, normalize)
    scores = oracle.masked_softmax(energy(hidden), all_masks(query, value, **masks))
    return results(scores @ value, scores, **masks)


def luong_oracle(weights, query, value, key=None, score="dot", **masks):
    key = value if key is None else key
    if score == "concat":
        v, w, u = weights
        energies = np.tanh((query @ w)[:, :, None] + (key @ u)[:, None]) @ v[:, 0]
    else:
        scale, *weights = weights if score.startswith("scaled") else (1, *weights)
        key = key @ weights[0] if weights else key
        energies = np.einsum("btd,bsd->bts", query, key) * scale
    scores = oracle.masked_softmax(energies, all_masks(query, value, **masks))
    return results(scores @ value, scores, **masks)


def location_energy(weights, query, value, bottleneck=True, cumulative=False):
    """`energy(b, t, past)` for `oracle.align_in_turn`."""
    score, filters, *dense = weights
    v = dense[3] if bottleneck else np.eye(U)
    hidden, to_energy = additive([score, *dense[:3]], query, value)
    size = len(filters)

    def energy(b, t, past):
        a = np.zeros(value.shape[1])
        if past:
            a = np.sum(past, axis=0) if cumulative else past[-1]
        around = np.pad(a, ((size - 1) // 2, size // 2))
        features = np.stack([around[s : s + size] @ filters[:, 0] for s in range(len(a))])
        return to_energy(hidden[b, t] + features @ v)

    return energy


def location_oracle(weights, query, value, bottleneck=True, cumulative=False, **masks):
    energy = location_energy(weights, query, value, bottleneck, cumulative)
    return results(*oracle.align_in_turn(energy, all_masks(query, value, **masks), value), **masks)


def monotonic_oracle(weights, query, value, weigh=oracle.soft_monotonic, location=False, **masks):
    bias, *weights = weights
    if location:
        energy = location_energy(weights, query, value)
    else:
        hidden, to_energy = additive(weights, query, value, normalize=True)

        def energy(b, t, past):
            return to_energy(hidden[b, t])

    mask = all_masks(query, value, **masks)
    return results(*oracle.align_in_turn(lambda *x: energy(*x) + bias, mask, value, weigh), **masks)


def nested(rng, B, T, S, masked=True):
    """Three sequences a row, whose memories differ; some are padded."""
    inputs = {"query": normal(rng, B, 3, T, D), "value": normal(rng, B, 3, S, D)}
    if masked:
        middle = np.arange(3)[:, None] == 1
        inputs |= {f"{n}_mask": lengths(B, L)[:, None] | middle for n, L in (("query", T), ("value", S))}
    return inputs


def nested_oracle(weights, query, value, truth, query_mask=None, value_mask=None, **others):
    found = []
    for i in range(query.shape[1]):
        masks = {} if query_mask is None else {"query_mask": query_mask[:, i], "value_mask": value_mask[:, i]}
        found.append(truth(weights, query[:, i], value[:, i], **masks, **others))
    if isinstance(found[0], tuple):
        return tuple(np.stack(parts, axis=1) for parts in zip(*found, strict=True))
    return np.stack(found, axis=1)


def monotonic(energy=None, dtype=None, location=False, **config):
    if energy is None:
        kind = partial(LocationSensitiveAttention, filters=F, kernel_size=3) if location else AdditiveAttention
        energy = kind(units=U, normalize=not location, dtype=dtype)
    return MonotonicAttention(energy, dtype=dtype, **config)


def case(name, make, truth, inputs=padded, bad=(), exempt=None, **options):
    masks = {} if inputs is restricted else {"query": "query_mask", "value": "value_mask"}
    if inputs is keyed:
        masks["key"] = "value_mask"
    return LayerCase(name, make, inputs, partial(truth, **options), masks, bad, exempt or {})


BAD = (
    ({"units": 0}, "`units`"),
    ({"dropout": 1.0}, "`dropout`"),
    ({"query": np.ones((2, D), "float32")}, "`query`"),
    ({"key": np.ones((2, 3, DV), "float32")}, "`key`"),
    ({"value_mask": np.ones((2, 4), "bool")}, "`value_mask`"),
    ({"query_mask": np.ones((2, 4), "bool")}, "`query_mask`"),
    ({"attention_mask": np.ones((2, 4, 7), "bool")}, "`attention_mask`"),
)
LUONG_BAD = (({"score": "cosine"}, "`score`"), ({"units": 3}, "`units`"))

CASES = [
    case("additive", partial(AdditiveAttention, units=U), additive_oracle, keyed, BAD),
    case(
        "additive_normalized",
        partial(AdditiveAttention, units=U, normalize=True),
        additive_oracle,
        partial(padded, width=DV),
        normalize=True,
    ),
    case("additive_restricted", partial(AdditiveAttention, units=U), additive_oracle, restricted),
    case("luong_dot", partial(LuongAttention, score="dot"), luong_oracle, bad=LUONG_BAD),
    case("luong_scaled", partial(LuongAttention, score="scaled"), luong_oracle, score="scaled"),
    case("luong_general", partial(LuongAttention, score="general"), luong_oracle, keyed, score="general"),
    case(
        "luong_scaled_general",
        partial(LuongAttention, score="scaled_general"),
        luong_oracle,
        keyed,
        score="scaled_general",
    ),
    case("luong_concat", partial(LuongAttention, score="concat", units=U), luong_oracle, keyed, score="concat"),
    case(
        "location",
        partial(LocationSensitiveAttention, units=U, filters=F, kernel_size=3),
        location_oracle,
        bad=(({"kernel_size": 0}, "`kernel_size`"), ({"filters": 0}, "`filters`")),
    ),
    case(
        "location_cumulative",
        partial(LocationSensitiveAttention, units=U, filters=F, kernel_size=5, cumulative=True),
        location_oracle,
        restricted,
        cumulative=True,
    ),
    case(
        "coverage",
        partial(LocationSensitiveAttention, units=U, filters=None, kernel_size=1, cumulative=True),
        location_oracle,
        bottleneck=False,
        cumulative=True,
    ),
    case(
        "monotonic_soft",
        partial(monotonic, hard=False),
        monotonic_oracle,
        bad=(({"energy": "additive"}, "`energy`"), ({"noise": -1.0}, "`noise`")),
    ),
    case("monotonic_sums", partial(monotonic, hard=False, exact=False), monotonic_oracle),
    case(
        "monotonic_soft_restricted",
        partial(monotonic, hard=False, location=True),
        monotonic_oracle,
        restricted,
        location=True,
    ),
    case(
        "monotonic_hard",
        monotonic,
        monotonic_oracle,
        exempt={
            **SHARP,
            "masked_positions": "the hard alignment has no gradient to the queries; a separate test perturbs them",
            "int8": SHARP["half_precision"],
        },
        weigh=oracle.hard_monotonic,
    ),
]


NESTED = [
    LayerCase(
        "additive_rank_4",
        partial(AdditiveAttention, units=U),
        nested,
        partial(nested_oracle, truth=additive_oracle),
        {"query": "query_mask", "value": "value_mask"},
        (
            ({"value": np.ones((2, 4, 7, D), "float32")}, "`value` must have the batch axes of `query`"),
            ({"value": np.ones((2, 7, D), "float32")}, "`value` must have rank 3"),
            ({"value_mask": np.ones((2, 7), "bool")}, "`value_mask`"),
        ),
    ),
    LayerCase(
        "location_rank_4",
        partial(LocationSensitiveAttention, units=U, filters=F, kernel_size=3),
        lambda rng, B, T, S: {**nested(rng, B, T, S), "return_attention_scores": True},
        partial(nested_oracle, truth=location_oracle),
        {"query": "query_mask", "value": "value_mask"},
    ),
    LayerCase(
        "general_rank_4_restricted",
        partial(LuongAttention, "general"),
        lambda rng, B, T, S: {**nested(rng, B, T, S, masked=False), "attention_mask": np.tri(T, S, S - T, bool)},
        partial(nested_oracle, truth=partial(luong_oracle, score="general")),
    ),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES + NESTED))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES + NESTED, format_name, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_steps_are_the_whole_sequence(case):
    layer, arguments = build(case)
    arguments = {**arguments, "return_attention_scores": True}
    value, key = arguments["value"], arguments.get("key")
    expected, expected_scores = layer(**arguments)
    mask = arguments.get("attention_mask")
    if mask is None:
        mask = np.broadcast_to(arguments["value_mask"][:, None], expected_scores.shape)
    keys, state = layer.project_memory(value, key), layer.initial_state(*value.shape[:2])
    for t in range(expected.shape[1]):
        context, weights, state = layer.step(arguments["query"][:, t], keys, value, mask[:, t], state)
        real = arguments["query_mask"][:, t] if "query_mask" in arguments else slice(None)
        np.testing.assert_allclose(context[real], expected[:, t][real], atol=1e-6)
        np.testing.assert_allclose(weights[real], expected_scores[:, t][real], atol=1e-6)


@pytest.mark.parametrize("case", CASES + NESTED, ids=lambda case: case.name)
def test_scores_are_recorded_with_a_head_axis(case):
    layer, arguments = build(case)
    with recording() as records:
        _, scores = layer(**{**arguments, "return_attention_scores": True})
    np.testing.assert_array_equal(records[layer.path], np.expand_dims(scores, -3))


def compare(ours, theirs, weights, their_weights):
    rng = np.random.default_rng(0)
    query, value, key = normal(rng, 3, 5, 7), normal(rng, 3, 11, 13), normal(rng, 3, 11, 7)
    mask = lengths(3, 11)
    ours(query, value, key)
    theirs([query, value, key])
    ours.set_weights(weights)
    theirs.set_weights(their_weights)
    expected = theirs([query, value, key], mask=[None, mask], return_attention_scores=True)
    actual = ours(query, value, key, value_mask=mask, return_attention_scores=True)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-5)


@pytest.mark.peer("AdditiveAttention", "keras.layers.AdditiveAttention")
def test_additive_attention_is_that_of_keras():
    scale = np.linspace(-1, 2, 7, dtype="float32")
    weights = [scale[:, None], np.eye(7), np.zeros(7), np.eye(7)]
    compare(AdditiveAttention(7), keras.layers.AdditiveAttention(), weights, [scale])


@pytest.mark.peer("LuongAttention", "keras.layers.Attention")
@pytest.mark.parametrize("score", ["dot", "scaled", "concat"])
def test_luong_attention_is_that_of_keras(score):
    weights = {
        "dot": [],
        "scaled": [np.array(0.3)],
        "concat": [np.full((7, 1), 1.7), 0.3 * np.eye(7), 0.3 * np.eye(7)],
    }[score]
    theirs = keras.layers.Attention(use_scale=score != "dot", score_mode="concat" if score == "concat" else "dot")
    ours = LuongAttention(score, units=7 if score == "concat" else None)
    compare(
        ours, theirs, weights, {"dot": [], "scaled": [np.array(0.3)], "concat": [np.array(0.3), np.array(1.7)]}[score]
    )


def test_a_product_needs_equal_widths():
    with pytest.raises(ValueError, match=r"`query` must have as many channels as the keys, 4. Received: 3"):
        LuongAttention("dot")(np.ones((2, 5, 3), "float32"), np.ones((2, 7, 4), "float32"))


def test_weight_normalisation_sees_no_length():
    (case,) = [case for case in CASES if case.name == "additive_normalized"]
    layer, arguments = build(case)
    expected = layer(**arguments)
    layer.score_vector.assign(layer.score_vector * 7)
    np.testing.assert_allclose(layer(**arguments), expected, atol=1e-6)
    layer.gain.assign(layer.gain * 7)
    assert not np.allclose(layer(**arguments), expected, atol=1e-3)


def test_coverage_is_named():
    config = LocationSensitiveAttention.coverage(5, use_bias=False).get_config()
    assert (config["filters"], config["kernel_size"], config["cumulative"], config["use_bias"]) == (
        None,
        1,
        True,
        False,
    )


def test_a_walk_expects_in_training_and_walks_otherwise():
    query, value = normal(np.random.default_rng(0), 2, 5, 3), normal(np.random.default_rng(1), 2, 7, 3)
    layers = {hard: MonotonicAttention(LuongAttention(), hard=hard) for hard in (None, True, False)}
    outputs = {(hard, t): np.asarray(layer(query, value, training=t)) for hard, layer in layers.items() for t in (0, 1)}
    np.testing.assert_array_equal(outputs[None, 0], outputs[True, 0])
    np.testing.assert_array_equal(outputs[None, 1], outputs[False, 1])
    np.testing.assert_array_equal(outputs[True, 0], outputs[True, 1])
    assert np.abs(outputs[None, 0] - outputs[None, 1]).max() > 1e-2


def test_a_walk_does_not_see_padding():
    (case,) = [case for case in CASES if case.name == "monotonic_hard"]
    layer, arguments = build(case)
    real = arguments["query_mask"]
    expected = layer(**arguments)[real]
    assert np.any(expected)
    for name in ("query", "value"):
        mask = arguments[f"{name}_mask"][..., None]
        arguments[name] = np.where(mask, arguments[name], np.float32(1e30))
    np.testing.assert_array_equal(layer(**arguments)[real], expected)


def test_sure_energies_make_an_expectation_a_walk():
    rng = np.random.default_rng(0)
    query, value = 1000 * normal(rng, 2, 5, 3), normal(rng, 2, 7, 3)
    soft, hard = (MonotonicAttention(LuongAttention(), hard=hard)(query, value) for hard in (False, True))
    np.testing.assert_allclose(soft, hard, atol=1e-3)


def test_noise_is_for_training():
    query, value = np.ones((2, 5, 3), "float32"), normal(np.random.default_rng(0), 2, 7, 3)
    noisy = MonotonicAttention(LuongAttention(), hard=False, noise=1.0, seed=3)
    quiet = MonotonicAttention(LuongAttention(), hard=False)
    np.testing.assert_array_equal(noisy(query, value), quiet(query, value, training=True))
    one, other = noisy(query, value, training=True), noisy(query, value, training=True)
    assert np.abs(one - quiet(query, value)).max() > 1e-2
    assert np.abs(one - other).max() > 1e-2


@pytest.mark.parametrize("exact", [True, False])
def test_the_walk_of_a_long_memory_loses_nothing(exact):
    energies = np.random.default_rng(0).normal(-4, 1, size=(1, 200))
    start = np.eye(200)[:1]
    expected = oracle.soft_monotonic(energies[0], np.ones(200, bool), [])
    actual = soft_monotonic(energies.astype("float32"), start.astype("float32"), exact=exact)
    np.testing.assert_allclose(actual[0], expected, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("is_known", [True, False])
def test_decisive_energies_lose_no_weight(length, is_known):
    rng = np.random.default_rng(length)
    mask = rng.random(length) < 0.9

    def walk(energies, previous):
        return soft_monotonic(energies, previous, mask)

    if not is_known:
        walk = tf.function(walk, input_signature=[tf.TensorSpec((None, None))] * 2, autograph=False)
    past, weights = [np.eye(length)[0]], np.eye(length, dtype="float32")[:1]
    for _ in range(12):
        energies = rng.normal(scale=10, size=length)
        past.append(oracle.soft_monotonic(energies, mask, past))
        weights = np.asarray(walk(energies[None].astype("float32"), weights))
        np.testing.assert_allclose(weights[0], past[-1], atol=2e-6)


def test_the_gradient_of_a_walk_does_not_depend_on_how_it_is_computed():
    rng = np.random.default_rng(0)
    energies, start = tf.constant(rng.normal(size=(2, 13))), tf.constant(rng.dirichlet(np.ones(13), size=2))
    cotangent = rng.normal(size=(2, 13))

    def gradients(energies, start, exact=True):
        with tf.GradientTape() as tape:
            tape.watch([energies, start])
            outputs = soft_monotonic(energies, start, exact=exact)
        return tape.gradient(outputs, [energies, start], cotangent)

    free = [tf.TensorSpec((None, None), "float64")] * 2
    expected = gradients(energies, start, exact=False)
    for jit_compile in (False, True):
        loop = tf.function(gradients, input_signature=free, jit_compile=jit_compile, autograph=False)
        for found in (gradients(energies, start), loop(energies, start)):
            for a, e in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, e, atol=1e-10)


def test_bias_initializer_sets_how_far_a_walk_goes():
    query, value = np.zeros((1, 1, 3), "float32"), np.zeros((1, 4, 3), "float32")
    layer = MonotonicAttention(LuongAttention(), hard=False, bias_initializer=keras.initializers.Constant(-1.0))
    _, scores = layer(query, value, return_attention_scores=True)
    p = 1 / (1 + np.exp(1.0))
    np.testing.assert_allclose(scores[0, 0], p * (1 - p) ** np.arange(4), atol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda: AdditiveAttention(5, dropout=0.5), lambda: LocationSensitiveAttention(5, 3, 3, dropout=0.5)]
)
def test_dropout_in_a_graph(make):
    query, value = normal(np.random.default_rng(0), 2, 5, 3), normal(np.random.default_rng(1), 2, 7, 3)
    layer = make()
    layer(query, value)
    call = tf.function(lambda: layer(query, value, training=True), autograph=False)
    one, other = call(), call()
    assert np.abs(one - other).max() > 1e-2
    mean = np.mean([call() for _ in range(400)], axis=0)
    if not layer.recurrent:
        np.testing.assert_allclose(mean, layer(query, value), atol=0.25)
    assert np.all(np.isfinite(mean))


def test_symbolic_memory_of_unknown_length():
    layer = LocationSensitiveAttention(5, 3, 3)
    output, scores = layer(keras.Input((None, 3)), keras.Input((None, 7)), return_attention_scores=True)
    assert (output.shape, scores.shape) == ((None, None, 7), (None, None, None))
