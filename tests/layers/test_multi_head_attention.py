"""What only attention does: stand in for Keras' layers, decode step by step, zero fully masked queries."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.layers import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    MultiHeadAttention,
    Residual,
    RotaryPositionEncoding,
    TokenEmbedding,
    recording,
)
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.target import EAGER, tracing_for

B, T, S, D, N, H = 2, 5, 7, 13, 3, 11
VALUE = ("value", (B, S, 17))
KEY = ("key", (B, S, 19))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def bools(*shape):
    """Random, but every row admits entries that leave a query of every position something to see."""
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[..., [0, 2]] = True
    return mask


def randomise(layer):
    layer.set_weights([normal(*w.shape, seed=i) * 0.3 for i, w in enumerate(layer.weights)])
    return layer


def outputs_and_gradients(layer, arguments, static, unmasked):
    """Of a loss over the unmasked queries only: for fully masked ones Keras returns an average, we return zero."""
    tensors = {name: tf.constant(x) for name, x in arguments.items()}
    floats = [x for x in tensors.values() if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        outputs = keras.tree.flatten(layer(**tensors, **static))
        loss = tf.reduce_sum(outputs[0] * normal(*outputs[0].shape, seed=9) * unmasked)
    gradients = tape.gradient(loss, [*floats, *(w.value for w in layer.trainable_weights)])
    return [np.asarray(outputs[0]) * unmasked, *outputs[1:]], gradients


DROP_IN = {
    "self": ({}, {}, ()),
    "cross": ({}, {}, (VALUE,)),
    "three": ({"value_dim": 5}, {}, (VALUE, KEY)),
    "no_bias": ({"use_bias": False}, {}, ()),
    "gate": ({"use_gate": True, "value_dim": 5}, {}, (VALUE,)),
    "output_int": ({"output_shape": 4}, {}, (VALUE,)),
    "output_tuple": ({"output_shape": (2, 3)}, {}, ()),
    "window": ({"sliding_window": 2}, {}, ()),
    "causal": ({}, {"use_causal_mask": True}, ()),
    "causal_cross": ({}, {"use_causal_mask": True}, (VALUE,)),
    "causal_window": ({"sliding_window": 3}, {"use_causal_mask": True, "return_attention_scores": True}, ()),
    "mask_pairs": ({}, {}, (VALUE, ("attention_mask", (T, S)))),
    "mask_rows": ({}, {"return_attention_scores": True}, (VALUE, ("attention_mask", (B, T, S)))),
    "mask_heads": ({}, {}, (VALUE, ("attention_mask", (B, N, T, S)))),
    "mask_broadcast": ({}, {}, (VALUE, ("attention_mask", (B, 1, S)))),
    "mask_causal": ({}, {"use_causal_mask": True}, (VALUE, ("attention_mask", (B, T, S)))),
    "value_mask": ({}, {"return_attention_scores": True}, (VALUE, ("value_mask", (B, S)))),
    "key_mask": ({}, {}, (VALUE, ("key_mask", (B, S)))),
    "all_masks": (
        {"sliding_window": 4},
        {"use_causal_mask": True},
        (VALUE, KEY, ("value_mask", (B, S)), ("key_mask", (B, S)), ("attention_mask", (B, T, S))),
    ),
    "axis_2_of_4": ({"attention_axes": 2}, {}, (("query", (B, 2, T, D)), ("value", (B, 2, S, 17)))),
    "axis_1_of_4": ({"attention_axes": 1}, {}, (("query", (B, T, 2, D)), ("value", (B, S, 2, 17)))),
    "negative_axis": ({"attention_axes": (-2,)}, {}, (("query", (B, 2, T, D)),)),
    "both_of_4": ({}, {"return_attention_scores": True}, (("query", (B, 2, 3, D)), ("value", (B, 5, 2, 17)))),
    "axes_of_5": (
        {"attention_axes": (2, 3)},
        {"return_attention_scores": True},
        (("query", (B, 2, 3, T, D)), ("value", (B, 2, 1, S, 17))),
    ),
    "axes_and_mask": (
        {"attention_axes": 2},
        {},
        (("query", (B, 3, T, D)), ("value", (B, 3, S, 17)), ("attention_mask", (B, 3, N, T, S))),
    ),
}


def drop_in_arguments(shapes):
    shapes = dict([("query", (B, T, D)), *shapes])
    arguments = {
        name: bools(*shape) if "mask" in name else normal(*shape, seed=i)
        for i, (name, shape) in enumerate(shapes.items())
    }
    # Keras needs to be told that the value is the query.
    arguments.setdefault("value", arguments["query"])
    return arguments


@pytest.mark.parametrize("name", DROP_IN)
@pytest.mark.peer("MultiHeadAttention", "keras.layers.MultiHeadAttention")
def test_drop_in_for_keras(name):
    config, static, shapes = DROP_IN[name]
    arguments = drop_in_arguments(shapes)
    theirs = keras.layers.MultiHeadAttention(N, H, **config)
    ours = MultiHeadAttention(N, H, **config)
    for layer in (theirs, ours):
        layer(**arguments, **static)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    unmasked = 1.0
    expected = outputs_and_gradients(theirs, arguments, static, unmasked)
    actual = outputs_and_gradients(ours, arguments, static, unmasked)
    for a, e in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, e, atol=1e-5, rtol=1e-5)


@pytest.mark.peer("MultiHeadAttention", "keras.layers.MultiHeadAttention")
def test_drop_in_with_fully_masked_queries():
    arguments = drop_in_arguments((VALUE, ("attention_mask", (B, T, S))))
    unmasked = np.ones((B, T, 1), "float32")
    unmasked[0, 1] = unmasked[1, 3] = 0
    arguments["attention_mask"] &= unmasked > 0
    theirs, ours = keras.layers.MultiHeadAttention(N, H), MultiHeadAttention(N, H)
    for layer in (theirs, ours):
        layer(**arguments)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    expected, actual = (outputs_and_gradients(layer, arguments, {}, unmasked) for layer in (theirs, ours))
    for a, e in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, e, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.peer("MultiHeadAttention", "keras.layers.MultiHeadAttention")
def test_drop_in_in_half_precision(dtype):
    arguments = drop_in_arguments((VALUE, ("value_mask", (B, S))))
    theirs, ours = (cls(N, H, dtype=dtype) for cls in (keras.layers.MultiHeadAttention, MultiHeadAttention))
    for layer in (theirs, ours):
        layer(**arguments)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    actual, expected = ours(**arguments), theirs(**arguments)
    assert actual.dtype == expected.dtype
    actual, expected = (np.asarray(x, "float32") for x in (actual, expected))
    np.testing.assert_allclose(actual, expected, atol=2e-2 * np.abs(expected).max())


def test_positional_arguments_in_keras_order():
    ours, theirs = MultiHeadAttention(N, H), keras.layers.MultiHeadAttention(N, H)
    query, value, key = normal(B, T, D), normal(B, S, 17, seed=1), normal(B, S, 19, seed=2)
    mask = bools(B, T, S)
    theirs(query, value, key)
    ours(query, value, key)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    expected = theirs(query, value, key, attention_mask=mask, return_attention_scores=True)
    for a, e in zip(ours(query, value, key, attention_mask=mask, return_attention_scores=True), expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-6)


def test_regularizers_and_constraints_as_keras():
    config = {
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "activity_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "bias_constraint": "unit_norm",
    }
    ours, theirs = MultiHeadAttention(N, H, **config), keras.layers.MultiHeadAttention(N, H, **config)
    x = normal(B, T, D)
    for layer in (theirs, ours):
        layer(x, x)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    ours(x, x), theirs(x, x)
    np.testing.assert_allclose(sorted(map(float, ours.losses)), sorted(map(float, theirs.losses)), rtol=1e-5)
    assert [type(w.constraint) for w in ours.weights] == [type(w.constraint) for w in theirs.weights]


@pytest.mark.parametrize("config", [{}, {"use_gate": True}, {"sliding_window": 3}])
@pytest.mark.peer("MultiHeadAttention", "keras.layers.GroupQueryAttention")
def test_grouped_heads_as_keras(config):
    theirs = keras.layers.GroupQueryAttention(H, 6, 2, **config)
    ours = MultiHeadAttention(6, H, num_kv_heads=2, **config)
    arguments = {"query": normal(B, T, D), "value": normal(B, S, 17, seed=1), "value_mask": bools(B, S)}
    static = {"use_causal_mask": True, "return_attention_scores": True}
    for layer in (theirs, ours):
        layer(**arguments)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    expected, actual = (outputs_and_gradients(layer, arguments, static, 1.0) for layer in (theirs, ours))
    for a, e in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, e, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [EncoderBlock, DecoderBlock])
def test_masks_of_an_embedding_reach_every_layer_of_a_model(block):
    """Also those that Keras does not pass by name, because a layer is called with one tensor only."""
    config = {"cross_attention": False} if block is DecoderBlock else {}
    ids = keras.Input((None,), dtype="int32")
    x = TokenEmbedding(11, 12, mask_zero=True)(ids)
    model = keras.Model(ids, MultiHeadAttention(N, 4)(block(N, 8, **config)(x)))
    for layer in model.layers[1:]:
        randomise(layer)
    short = model(np.array([[3, 7, 5]]))
    padded = model(np.array([[3, 7, 5, 0, 0]]))
    np.testing.assert_allclose(padded[:, :3], short, atol=1e-6)
    np.testing.assert_array_equal(padded[:, 3:], 0)
    np.testing.assert_array_equal(padded._keras_mask, [[True, True, True, False, False]])


@pytest.mark.parametrize(
    "arguments",
    [
        {"attention_mask": np.arange(T)[:, None] != np.ones(T)},
        {"query_mask": np.arange(T)[None] != np.ones((B, 1))},
        {"attention_mask": np.ones((T, T), "bool"), "value_mask": np.zeros((B, T), "bool")},
        # Query 1 sees keys 0 to 2 only, and none of them is real.
        {"value_mask": np.arange(T)[None] > np.full((B, 1), 2)},
    ],
    ids=["attention_mask", "query_mask", "all_keys", "window"],
)
@pytest.mark.parametrize("config", [{}, {"use_gate": True}, {"use_bias": False}, {"num_kv_heads": 1}])
def test_fully_masked_queries_are_zero(arguments, config):
    layer = MultiHeadAttention(N, H, window=2, **config)
    x = tf.constant(normal(B, T, D))
    layer(x)
    randomise(layer)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        output, scores = layer(x, x, return_attention_scores=True, **arguments)
        masked = output[:, 1]
    np.testing.assert_array_equal(masked, 0)
    np.testing.assert_array_equal(scores[:, :, 1], 0)
    sources = [x, *(w.value for w in layer.trainable_weights)]
    for gradient in tape.gradient(masked, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO):
        np.testing.assert_array_equal(gradient, 0)
    assert all(np.all(np.isfinite(g)) for g in tape.gradient(output, sources))


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_endless_bias_is_no_nan(dtype):
    layer = MultiHeadAttention(N, H, dtype=dtype)
    bias = np.zeros((T, T), "float32")
    bias[1] = -1e9
    bias[2, 1:] = -np.inf
    output, scores = layer(normal(B, T, D), bias=bias, return_attention_scores=True)
    assert np.all(np.isfinite(output))
    np.testing.assert_allclose(scores[:, :, 2, 0], 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_self_attention_is_the_same_however_it_is_called(dtype):
    layer = MultiHeadAttention(N, 12, position=RotaryPositionEncoding(), dtype=dtype)
    x, tensor = normal(B, T, D), tf.constant(normal(B, T, D))
    arguments = {"positions": np.array([[0, 3, 4, 9, 2]], "int32"), "query_mask": bools(B, T)}
    expected = layer(x, **arguments)
    for query, others in ((x, (x,)), (x, (x, x)), (tensor, (tensor,)), (tensor, (tensor, tensor))):
        np.testing.assert_array_equal(layer(query, *others, **arguments), expected)


def test_rotary_attention_depends_on_distance_only():
    layer = MultiHeadAttention(N, 12, position=RotaryPositionEncoding(), causal=True, window=3)
    x, positions = normal(B, T, D), np.array([[0, 1, 2, 3, 4], [0, 2, 3, 5, 9]], "int32")
    np.testing.assert_allclose(layer(x, positions=positions + 100), layer(x, positions=positions), atol=2e-5)
    assert np.max(np.abs(layer(x, positions=positions * 2) - layer(x, positions=positions))) > 1e-3


CACHED = {
    "plain": {},
    "grouped": {"num_kv_heads": 1},
    "window": {"window": 2},
    "value_dim": {"value_dim": 5, "qk_norm": True},
    "rotary": {"position": keras.saving.serialize_keras_object(RotaryPositionEncoding(rotary_dim=4))},
    "extra_keys": {"add_bias_kv": True, "add_zero_attn": True},
}


@pytest.mark.parametrize("policy", ["select", "slice", "in_place", "concat"])
@pytest.mark.parametrize("config", CACHED.values(), ids=CACHED)
def test_step_by_step_equals_all_at_once(config, policy):
    layer = MultiHeadAttention(N, H, causal=True, **config)
    x = normal(B, 7, D)
    expected = layer(x)
    length = 0 if policy == "concat" else 9
    cache = kv_cache.empty(B, length, layer.num_kv_heads, (H, layer.value_dim), "float32")
    steps = []
    with tracing_for(EAGER, cache_writes=policy):
        for start, stop in ((0, 3), (3, 4), (4, 5), (5, 7)):
            positions = np.arange(start, stop, dtype="int32")[None]
            output, cache = layer(x[:, start:stop], positions=positions, cache=cache)
            steps.append(output)
    np.testing.assert_allclose(np.concatenate(steps, axis=1), expected, atol=1e-5)


@pytest.mark.parametrize("config", CACHED.values(), ids=CACHED)
def test_right_padded_prompts_continue_at_their_own_positions(config):
    layer = MultiHeadAttention(N, H, causal=True, **config)
    x, prompts = normal(B, 7, D), (2, 4)
    expected = [layer(x[row : row + 1]) for row in range(B)]
    cache = kv_cache.empty(B, 9, layer.num_kv_heads, (H, layer.value_dim), "float32")
    _, cache = layer(x[:, : max(prompts)], positions=np.arange(max(prompts), dtype="int32")[None], cache=cache)
    for step in range(3):
        positions = np.array([[length + step] for length in prompts], "int32")
        token = np.take_along_axis(x, positions[..., None], axis=1)
        output, cache = layer(token, positions=positions, cache=cache)
        for row in range(B):
            np.testing.assert_allclose(output[row, 0], expected[row][0, positions[row, 0]], atol=1e-5)


def test_projected_memory_equals_memory():
    layer = MultiHeadAttention(N, H, value_dim=5, qk_norm=True, position=RotaryPositionEncoding(rotary_dim=4))
    query, value, key, mask = normal(B, T, D), normal(B, S, 17, seed=1), normal(B, S, 19, seed=2), bools(B, S)
    expected = layer(query, value, key, value_mask=mask, return_attention_scores=True)
    memory = layer.project_memory(value, key)
    actual = layer(query, memory_cache=memory, value_mask=mask, return_attention_scores=True)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-6)


def projections(layer):
    return [sub for sub in layer._flatten_layers() if isinstance(sub, keras.layers.EinsumDense)]


@pytest.mark.parametrize("make", [lambda: MultiHeadAttention(N, H), lambda: FeedForward(17)])
def test_lora_adds_its_product_to_each_kernel(make):
    layer, merged, x = make(), make(), normal(B, T, D)
    layer(x), merged(x)
    randomise(layer)
    weights = layer.get_weights()
    before = layer(x)
    for projection in projections(layer):
        projection.enable_lora(2)
    np.testing.assert_allclose(layer(x), before, atol=1e-6)
    assert {w.name for w in layer.trainable_weights} == {"lora_kernel_a", "lora_kernel_b", "bias"}
    kernels = iter(projections(layer))
    for i, weight in enumerate(weights):
        if weight.ndim > 1 and i % 2 == 0:
            projection = next(kernels)
            a, b = (normal(*w.shape, seed=i) for w in (projection.lora_kernel_a, projection.lora_kernel_b))
            projection.lora_kernel_a.assign(a)
            projection.lora_kernel_b.assign(b)
            weights[i] = weight + a @ b
    merged.set_weights(weights)
    np.testing.assert_allclose(layer(x), merged(x), atol=1e-4, rtol=1e-4)
    assert np.max(np.abs(layer(x) - before)) > 1e-2


@pytest.mark.parametrize("make", [lambda: MultiHeadAttention(N, H), lambda: FeedForward(17)])
def test_int8_is_close_to_float(make):
    layer, x = make(), normal(B, T, D)
    layer(x)
    randomise(layer)
    exact = layer(x)
    for projection in projections(layer):
        projection.quantize("int8")
        assert projection._kernel.dtype == "int8"
    error = np.abs(layer(x) - exact) / np.max(np.abs(exact))
    assert 0 < error.max() < 0.03


@pytest.mark.parametrize("tie_weights", [True, False])
def test_embedding_with_lora_and_in_int8(tie_weights):
    ids, x = np.array([[1, 3, 5]]), normal(B, T, D)
    embedding = TokenEmbedding(11, D, tie_weights=tie_weights)
    embedding(ids)
    embedding.enable_lora(2)
    embedding.lora_embeddings_b.assign(normal(2, D))
    table = np.asarray(embedding.embeddings)
    assert np.max(np.abs(table - embedding._embeddings)) > 1e-3
    np.testing.assert_allclose(embedding(ids), table[ids] * D**0.5, rtol=1e-5)
    reverse = table.T if tie_weights else np.asarray(embedding.reverse_embeddings)
    np.testing.assert_allclose(embedding(x, reverse=True), x @ reverse, atol=1e-5)

    embedding = TokenEmbedding(11, D, tie_weights=tie_weights)
    vectors, logits = embedding(ids), embedding(x, reverse=True)
    embedding.quantize("int8")
    assert 0 < np.max(np.abs(embedding(ids) - vectors)) < 0.02
    assert 0 < np.max(np.abs(embedding(x, reverse=True) - logits)) < 0.05


def test_dropout_follows_its_seed_and_spares_the_scores():
    x = normal(B, T, D)
    first, second, plain = (MultiHeadAttention(N, H, dropout=rate, seed=7) for rate in (0.5, 0.5, 0.0))
    for layer in (first, second, plain):
        layer(x)
    for layer in (second, plain):
        layer.set_weights(first.get_weights())
    output, scores = first(x, return_attention_scores=True, training=True)
    np.testing.assert_array_equal(output, second(x, training=True))
    assert np.max(np.abs(output - first(x, training=True))) > 1e-3
    np.testing.assert_allclose(scores, plain(x, return_attention_scores=True)[1], atol=1e-6)


def test_recording_holds_the_scores_of_every_attention():
    block = DecoderBlock(N, 17, key_dim=H)
    x, memory = normal(B, T, D), normal(B, S, 17, seed=1)
    expected = block(x, memory)
    with recording() as scores:
        np.testing.assert_allclose(block(x, memory), expected, atol=1e-6)
    assert [path.split("/")[1:] for path in scores] == [
        ["self_attention", "attention"],
        ["cross_attention", "attention"],
    ]
    assert [tuple(s.shape) for s in scores.values()] == [(B, N, T, T), (B, N, T, S)]
    np.testing.assert_allclose([np.sum(s, axis=-1).mean() for s in scores.values()], 1, rtol=1e-5)
    block(x, memory)
    assert len(scores) == 2


def test_residual_round_attention_to_a_memory():
    inputs, memory = keras.Input((None, D)), keras.Input((None, 17))
    model = keras.Model([inputs, memory], Residual(MultiHeadAttention(N, H))(inputs, memory))
    arrays = [normal(B, T, D), normal(B, S, 17, seed=1)]
    residual = model.layers[-1]
    expected = arrays[0] + residual.layer(residual.norm_before(arrays[0]), arrays[1])
    np.testing.assert_allclose(model(arrays), expected, atol=1e-6)


def test_extra_keys_go_with_rank_3_alone():
    with pytest.raises(ValueError, match=r"`add_bias_kv` and `add_zero_attn` need inputs of rank 3\. .* 4"):
        MultiHeadAttention(N, H, add_zero_attn=True)(np.ones((2, 3, 4, 5), "float32"))


def test_extra_keys_under_every_mechanism():
    x, mask = normal(B, 40, D), np.arange(40) < np.array([[30]] * B)
    layers = [
        MultiHeadAttention(N, H, causal=True, window=9, add_bias_kv=True, mechanism=mechanism)
        for mechanism in ("dense", "blockwise")
    ]
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
    np.testing.assert_allclose(*[layer(x, query_mask=mask) for layer in layers], atol=1e-5)


def test_refuses_what_no_mechanism_can_do():
    with pytest.raises(ValueError, match=r"`mechanism` must support this call.*flash_attention=True"):
        MultiHeadAttention(N, H, flash_attention=True, mechanism="dense")(normal(B, T, D))
