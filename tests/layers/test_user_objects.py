"""The user's own functions and classes in layers and models: only a file needs them registered with Keras."""

import functools
import json
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import EncoderModel, LanguageModel
from keras_attn.layers import (
    AudioFrontEnd,
    Decoder,
    DecoderBlock,
    Encoder,
    EncoderBlock,
    FeedForward,
    GatedFeedForward,
    MixtureOfExperts,
    MultiHeadAttention,
    PositionEncoding,
    RelativePositionBias,
    ShawRelativePosition,
)

X = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")


def relu(x):
    """Not Keras' own."""
    return 3 * ops.relu(x)


class Tripled:
    def __call__(self, x):
        return relu(x)


class Own(keras.layers.Layer):
    """Of a constructor that takes no name, unlike those of Keras."""

    def __init__(self, units, function):
        super().__init__()
        self.units, self.function = units, function
        self.up, self.down = keras.layers.Dense(units, kernel_initializer="ones"), None

    def build(self, shape):
        self.down = keras.layers.Dense(shape[-1])
        self.up.build(shape)
        self.down.build((*shape[:-1], self.units))

    def call(self, x):
        return self.down(self.function(self.up(x)))

    def get_config(self):
        return {"units": self.units, "function": keras.saving.serialize_keras_object(self.function)}

    @classmethod
    def from_config(cls, config):
        return cls(config["units"], keras.saving.deserialize_keras_object(config["function"]))


class Filled(keras.initializers.Initializer):
    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        return ops.full(shape, self.value, dtype)


class Doubled(Filled):
    def get_config(self):
        return {"value": self.value}


class Lone(PositionEncoding):
    pass


ACTIVATIONS = [relu, lambda x: 3 * ops.relu(x), functools.partial(relu), Tripled()]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=["function", "lambda", "partial", "object"])
def test_activation(activation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = EncoderModel(20, 1, 8, 2, 16, activation=activation, head="masked_lm")
        layers = [EncoderBlock(2, 16, activation=activation), Encoder(2, 2, 16, activation=activation)]
        layers += [Decoder(1, 2, cross_attention=False, feed_forward=FeedForward(16, activation=activation))]
        outputs = [layer(X) for layer in layers]
    blocks = [layers[0], *layers[1].blocks, *layers[2].blocks, *model.encoder.blocks]
    assert all(block.feed_forward.layer.activation is activation for block in blocks)
    block = EncoderBlock(2, 16, activation=lambda x: 3 * keras.activations.relu(x))
    block(X)
    block.set_weights(layers[0].get_weights())
    np.testing.assert_allclose(block(X), outputs[0], rtol=1e-6)


SCALE = 5.0
TEMPLATES = {
    "lambdas": lambda: keras.Sequential(
        [keras.layers.Dense(4, activation=lambda x: SCALE * x), keras.layers.Dense(8, activation=lambda x: x - SCALE)]
    ),
    "Lambda": lambda: keras.Sequential([keras.layers.Dense(8), keras.layers.Lambda(lambda x: SCALE * x)]),
    "own class": lambda: Own(4, relu),
    "ours in Keras'": lambda: keras.Sequential([GatedFeedForward(4, activation=relu)]),
    "experts": lambda: MixtureOfExperts(2, 4, activation=relu, kernel_initializer=Filled(0.5)),
}


@pytest.mark.parametrize("make", TEMPLATES.values(), ids=TEMPLATES)
def test_feed_forward(make):
    given = make()
    expected = given(X)
    for template in (make(), given):
        encoder = Encoder(2, 2, feed_forward=template, layer_options=[{}, {"feed_forward": template}])
        encoder(X)
        first, second = (block.feed_forward.layer for block in encoder.blocks)
        assert not {id(x) for x in first._flatten_layers()} & {id(x) for x in second._flatten_layers()}
        assert first.name == second.name or isinstance(given, Own)
        for network in (first, second):
            network.set_weights(given.get_weights())
            np.testing.assert_array_equal(network(X), expected)


def test_a_feed_forward_network_that_cannot_be_copied():
    class NoConfig(keras.layers.Layer):
        def __init__(self, function):
            super().__init__()

    with pytest.raises(ValueError, match=r"`feed_forward` must be a layer with a `get_config`.*NoConfig"):
        EncoderBlock(2, feed_forward=NoConfig(relu))

    for stray in (relu, Own):
        with pytest.raises(ValueError, match="`feed_forward` must be a Keras layer"):
            Encoder(2, 2, feed_forward=stray)

    def made(factor):
        def activation(x):
            return factor * x

        return keras.layers.Dense(8, activation=activation)

    with pytest.raises(ValueError, match="`feed_forward` must not have several functions of the same name"):
        EncoderBlock(2, feed_forward=keras.Sequential([made(2), made(3)]))


@pytest.mark.parametrize("initializer", [Filled(2.0), Doubled(2.0), lambda shape, dtype=None: ops.full(shape, 2.0)])
def test_initializers(initializer):
    layers = [
        FeedForward(4, kernel_initializer=initializer, bias_initializer=initializer),
        MixtureOfExperts(2, 4, kernel_initializer=initializer),
        MultiHeadAttention(2, 4, kernel_initializer=initializer, bias_initializer=initializer),
        AudioFrontEnd(4, kernel_initializer=initializer, bias_initializer=initializer),
        MultiHeadAttention(2, 4, position=ShawRelativePosition(2, 4, 4, initializer)),
    ]
    for layer in layers:
        layer(X)
    assert all(np.all(w.numpy() == 2) for layer in layers[:4] for w in layer.weights)
    assert all(np.all(w.numpy() == 2) for w in layers[4].position.weights)
    # DeepNorm scales what they give.
    options = {"attention_options": {"kernel_initializer": initializer}}
    encoder = Encoder(8, 2, feed_forward=FeedForward(4, kernel_initializer=initializer), norm="deepnorm", **options)
    encoder(X)
    block = encoder.blocks[3]
    scaled = [block.feed_forward.layer.output_dense, block.self_attention.layer.value_dense]
    assert all(np.allclose(layer.kernel, 2 * 64**-0.25) for layer in scaled)
    assert np.allclose(block.self_attention.layer.query_dense.kernel, 2)


def test_deepnorm_scales_the_networks_that_it_can():
    dense = [keras.layers.Dense(width, kernel_initializer="ones") for width in (16, 8)]
    encoder = Encoder(2, 2, feed_forward=keras.Sequential(dense), norm="deepnorm")
    encoder(X)
    for layer in encoder.blocks[1].feed_forward.layer.layers:
        np.testing.assert_allclose(layer.kernel, 16**-0.25, rtol=1e-6)
    kernels = [keras.Sequential([keras.Input((None, 8)), *dense]), Own(4, relu), keras.layers.LayerNormalization()]
    for network in kernels:
        with pytest.raises(ValueError, match=r"`feed_forward` must hold layers with a `kernel_initializer`.*init_gain"):
            Encoder(2, 2, feed_forward=network, norm="deepnorm")(X)
        Encoder(2, 2, feed_forward=network, norm="deepnorm", init_gain=1.0)(X)


def options(serialized):
    given = {
        "kernel_initializer": keras.initializers.Constant(0.25),
        "kernel_regularizer": keras.regularizers.L2(0.5),
        "kernel_constraint": keras.constraints.NonNeg(),
        "position": RelativePositionBias(2),
    }
    return keras.saving.serialize_keras_object(given) if serialized else given


def check_options(attention, regularized):
    assert np.all(attention.query_dense.kernel.numpy() == 0.25)
    assert isinstance(attention.query_dense.kernel.constraint, keras.constraints.NonNeg)
    assert isinstance(attention.position, RelativePositionBias)
    squares = [np.sum(np.square(w)) for w in regularized.weights if w.name == "kernel" and w.regularizer]
    np.testing.assert_allclose(sum(map(float, regularized.losses)), 0.5 * sum(squares), rtol=1e-6)


def test_short_forms_of_keras_objects_in_options():
    short = {"class_name": "Constant", "config": {"value": 0.25}}
    given = {"kernel_initializer": short, "bias_initializer": keras.initializers.Ones}
    block = EncoderBlock(2, 4, attention_options=given)
    for layer in (block, EncoderBlock.from_config(block.get_config())):
        layer(X)
        query = layer.self_attention.layer.query_dense
        assert np.all(query.kernel.numpy() == 0.25)
        assert np.all(query.bias.numpy() == 1)


def test_a_position_for_another_number_of_heads():
    with pytest.raises(ValueError, match=r"`position` must have the num_heads=2 .* RelativePositionBias with"):
        MultiHeadAttention(2, 4, position=RelativePositionBias(8))


@pytest.mark.parametrize("serialized", [False, True], ids=["live", "serialised"])
def test_keras_objects_in_options(serialized, tmp_path):
    given = options(serialized)
    encoder = Encoder(2, 2, 16, attention_options=given)
    alternating = Encoder(2, 2, 16, layer_options=[{"attention_options": given}, {"window": 2}])
    decoder = DecoderBlock(2, 16, cross_attention_options={**given, "position": None})
    model = LanguageModel(20, 2, 8, 2, 16, attention_options=given, layer_options=[{}, {"window": 2}])
    for layer in (encoder, alternating):
        layer(X)
    decoder(X, X)
    check_options(encoder.blocks[1].self_attention.layer, encoder)
    assert encoder.blocks[0].self_attention.layer.position is encoder.blocks[1].self_attention.layer.position
    check_options(alternating.blocks[0].self_attention.layer, alternating)
    assert alternating.blocks[1].self_attention.layer.position is None
    assert np.all(decoder.cross_attention.layer.query_dense.kernel.numpy() == 0.25)
    check_options(model.decoder.blocks[1].self_attention.layer, model)
    for layer in (encoder, alternating, decoder):
        copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
        arguments = (X, X) if layer is decoder else (X,)
        copy(*arguments)
        copy.set_weights(layer.get_weights())
        np.testing.assert_array_equal(copy(*arguments), layer(*arguments))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ids = np.array([[5, 6, 7]])
    np.testing.assert_array_equal(loaded(ids), model(ids))
    first, second = (block.self_attention.layer.position for block in loaded.decoder.blocks)
    assert first is second


def test_files_need_registered_objects(tmp_path):
    model = LanguageModel(20, 1, 8, 2, activation=relu, feed_forward=FeedForward(4, activation=relu), position=Lone())
    model.save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match=r"Could not locate|Lone"):
        keras.saving.load_model(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"relu": relu, "Lone": Lone})
    assert loaded.decoder.blocks[0].feed_forward.layer.activation is relu
    assert isinstance(loaded.position, Lone)
    ids = np.array([[5, 6, 7]])
    np.testing.assert_array_equal(loaded(ids), model(ids))
