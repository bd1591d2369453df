"""Every attention's scores, whatever the model is made of, and nothing else changed."""

import keras
import numpy as np
import pytest
from samples import lengths, normal

from keras_attn import attention_maps
from keras_attn.layers import AttentionPooling, EncoderBlock, MultiHeadAttention
from keras_attn.ops import attention_rollout
from keras_attn.ops.attention_recording import recorder

B, T, D, N = 2, 7, 12, 3


def inputs(rows=B, length=T):
    return normal(np.random.default_rng(0), rows, length, D)


def expected_scores(layer, x, **kwargs):
    return np.asarray(layer(x, return_attention_scores=True, **kwargs)[1])


def test_a_layer_called_twice_keeps_both_scores():
    block = EncoderBlock(N, 16)
    source = keras.Input((None, D))
    model = keras.Model(source, block(block(block(source))))
    maps = attention_maps(model, inputs())
    path = block.self_attention.layer.path
    assert list(maps) == [path, f"{path}#2", f"{path}#3"]
    hidden = inputs()
    for scores in maps.values():
        residual = block.self_attention
        np.testing.assert_allclose(scores, expected_scores(residual.layer, residual.norm_before(hidden)), atol=1e-6)
        hidden = block(hidden)


def test_nested_models_with_layers_of_one_name():
    def encoder():
        source = keras.Input((None, D))
        return keras.Model(source, MultiHeadAttention(N, 4, name="attention")(source))

    first, second = encoder(), encoder()
    source = keras.Input((None, D))
    model = keras.Model(source, second(first(source)))
    maps = attention_maps(model, inputs())
    attentions = [part.get_layer("attention") for part in (first, second)]
    hidden = inputs()
    assert len(maps) == 2
    for scores, layer in zip(maps.values(), attentions, strict=True):
        np.testing.assert_allclose(scores, expected_scores(layer, hidden), atol=1e-6)
        hidden = layer(hidden)


def test_a_layer_alone_and_pooling():
    layer = AttentionPooling(num_heads=N)
    layer(inputs())
    [scores] = attention_maps(layer, inputs()).values()
    assert scores.shape == (B, N, 1, T)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("config", [{"window": 3}, {"window": 2, "causal": True}])
def test_a_mechanism_without_scores_answers_as_ever_and_is_seen_through(config):
    layer = MultiHeadAttention(N, 4, mechanism="local", **config)
    dense = MultiHeadAttention(N, 4, mechanism="dense", **config)
    x, mask = inputs(), lengths(B, T)
    layer(x)
    dense(x)
    dense.set_weights(layer.get_weights())
    outputs = []

    def model(x, training):
        outputs.append(layer(x, query_mask=mask, training=training))

    [scores] = attention_maps(model, x).values()
    np.testing.assert_allclose(scores, expected_scores(dense, x, query_mask=mask), atol=1e-6)
    np.testing.assert_array_equal(outputs[0], layer(x, query_mask=mask))
    with pytest.raises(ValueError, match="`mechanism` must support this call"):
        layer(x, return_attention_scores=True)


def test_what_has_no_scores_says_so_and_leaves_no_scope_open():
    layer = MultiHeadAttention(N, 4, mechanism="linear")
    layer(inputs())
    with pytest.raises(ValueError, match=r"`mechanism` must be one that returns scores, to record them.*'linear'"):
        attention_maps(layer, inputs())
    assert recorder() is None


def test_flash_attention_is_no_obstacle():
    layer = MultiHeadAttention(N, 4, flash_attention=True, mechanism="local", window=3)
    layer(inputs())
    [scores] = attention_maps(layer, inputs()).values()
    assert scores.shape == (B, N, T, T)


def test_rollout_is_the_product_of_what_each_layer_mixes():
    maps = {f"layer_{i}": np.random.default_rng(i).dirichlet(np.ones(T), size=(B, N, T)) for i in range(3)}
    expected = np.zeros((B, T, T))
    for row in range(B):
        product = np.eye(T)
        for scores in maps.values():
            product = (scores[row].mean(axis=0) * 0.7 + 0.3 * np.eye(T)) @ product
        expected[row] = product
    np.testing.assert_allclose(attention_rollout(maps, residual=0.3), expected, atol=1e-12)
    np.testing.assert_allclose(attention_rollout(list(maps.values()), residual=0.3), expected, atol=1e-12)


def test_rollout_leaves_padding_to_itself():
    layer = MultiHeadAttention(N, 4)
    mask = lengths(B, T)
    scores = np.asarray(layer(inputs(), query_mask=mask, return_attention_scores=True)[1])
    rollout = np.asarray(attention_rollout([scores, scores]))
    np.testing.assert_allclose(rollout.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(rollout[~mask], np.broadcast_to(np.eye(T), (B, T, T))[~mask])
    np.testing.assert_array_equal(rollout[0, : T - 2, T - 2 :], 0)


@pytest.mark.parametrize(
    ("scores", "arguments", "message"),
    [
        ([], {}, "`scores` must hold the scores of one"),
        ({"cross": np.ones((B, N, T, 5))}, {}, r"self-attention.*\(2, 3, 7, 5\) for 'cross'"),
        ([np.ones((B, N, T, T)), np.ones((B, N, 5, 5))], {}, "`scores` must be those of self-attention"),
        ([np.ones((T, T))], {}, "`scores` must be those of self-attention"),
        ([np.ones((B, N, T, T))], {"residual": 1.0}, "`residual` must be in"),
    ],
)
def test_rollout_refuses(scores, arguments, message):
    with pytest.raises(ValueError, match=message):
        attention_rollout(scores, **arguments)
