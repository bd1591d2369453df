"""What blocks and stacks ask of a self-attention layer that they are given as a template."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Transformer
from keras_attn.layers import (
    Decoder,
    DecoderBlock,
    Encoder,
    EncoderBlock,
    LearnedPositionEmbedding,
    MultiHeadAttention,
    Parallel,
    RelativePositionBias,
    Residual,
    RotaryPositionEncoding,
)

X = np.random.default_rng(0).normal(size=(2, 5, 12)).astype("float32")
REAL = np.arange(5) < np.array([[3], [5]])
THEIRS = {
    "MultiHeadAttention": (lambda: keras.layers.MultiHeadAttention(3, 4), None),
    "GroupedQueryAttention": (lambda: keras.layers.GroupQueryAttention(4, 4, 2), 2),
}


def randomised(layer, *arguments, **kwargs):
    layer(*arguments, **kwargs)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(scale=0.3, size=weight.shape) for weight in layer.weights])
    return layer


class Mean(keras.layers.Layer):
    """The mean of the real inputs, through a map of one's own; not registered with Keras."""

    def __init__(self, function=None, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        self.dense = keras.layers.Dense(12, dtype=self.dtype_policy)

    def call(self, inputs, query_mask=None):
        weights = ops.ones_like(inputs) if query_mask is None else ops.cast(query_mask, inputs.dtype)[..., None]
        mean = ops.sum(inputs * weights, axis=1, keepdims=True) / ops.sum(weights, axis=1, keepdims=True)
        x = self.dense(inputs + mean)
        return x if self.function is None else self.function(x)

    def get_config(self):
        return {**super().get_config(), "function": self.function}


class Causal(Mean):
    def call(self, inputs, query_mask=None, use_causal_mask=False):
        return self.dense(inputs) * (1.0 if use_causal_mask else np.nan)


class Listening(keras.layers.Layer):
    """Remembers what it was called with."""

    def call(self, inputs, **kwargs):
        self.heard = {"inputs": inputs, **kwargs}
        return inputs


class Cached(keras.layers.Layer):
    """Adds up what it has heard; of a cache of one tensor, of any length."""

    def call(self, inputs, cache=None, slots=None, positions=None, attention_mask=None, use_causal_mask=False):
        total = ops.cumsum(inputs, axis=1)
        if cache is None:
            return total
        if cache:
            total = total + ops.sum(cache[0], axis=(1, 2))[:, None]
            return total, (ops.concatenate([cache[0], inputs[:, None]], axis=2),)
        return total, (inputs[:, None],)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("parallel", [False, True, "two_norms"])
@pytest.mark.parametrize("name", THEIRS)
def test_layers_of_keras_are_ours(name, parallel, causal):
    make, num_kv_heads = THEIRS[name]
    settings = {"intermediate_dim": 7, "parallel": parallel}
    kind = DecoderBlock if causal else EncoderBlock
    settings |= {"cross_attention": False} if causal else {}
    theirs = randomised(kind(attention=make(), **settings), X)
    ours = kind(num_heads=4 if num_kv_heads else 3, key_dim=4, num_kv_heads=num_kv_heads, **settings)
    ours(X)
    ours.set_weights(theirs.get_weights())
    explicit = np.random.default_rng(2).random((2, 5, 5)) < 0.7
    explicit |= np.eye(5, dtype=bool)
    for arguments in ({}, {"inputs_mask": REAL}, {"inputs_mask": REAL, "attention_mask": explicit}):
        where = REAL if arguments else np.ones_like(REAL)
        np.testing.assert_allclose(
            np.asarray(theirs(X, **arguments))[where], np.asarray(ours(X, **arguments))[where], atol=1e-5
        )
    noisy = np.where(REAL[..., None], X, 9.0).astype("float32")
    found, expected = (np.asarray(theirs(x, inputs_mask=REAL))[REAL] for x in (noisy, X))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    masked = keras.layers.Masking()(np.where(REAL[..., None], X, 0).astype("float32"))
    np.testing.assert_allclose(np.asarray(theirs(masked))[REAL], expected, atol=1e-5)
    with pytest.raises(ValueError, match=rf"`bias` must be None .* of class \w*{name[-14:]}, bias="):
        theirs(X, bias=np.zeros((5, 5), "float32"))


@pytest.mark.parametrize("position", [RotaryPositionEncoding, lambda: RelativePositionBias(3, bidirectional=False)])
def test_a_template_of_multi_head_attention_is_the_block_s_own(position):
    plain = randomised(Decoder(2, 3, 7, cross_attention=False, window=3, position=position()), X)
    attention = MultiHeadAttention(3, 4, window=3)
    decoder = Decoder(2, None, 7, cross_attention=False, attention=attention, position=position())
    decoder(X)
    assert [weight.name for weight in decoder.weights] == [weight.name for weight in plain.weights]
    decoder.set_weights(plain.get_weights())
    np.testing.assert_array_equal(decoder(X, inputs_mask=REAL), plain(X, inputs_mask=REAL))
    assert decoder.blocks[0].attention_span() == plain.blocks[0].attention_span() == (3, 0)
    assert len({id(block.self_attention.layer.position) for block in decoder.blocks}) == 1
    caches, pieces = decoder.empty_caches(2, 5), []
    for t in range(5):
        piece, caches = decoder(X[:, t : t + 1], positions=np.array([[t]]), caches=caches)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, 1), plain(X), atol=1e-5)
    assert not attention.built
    assert attention.position is None


def test_wrappers_give_keras_layers_their_inputs_twice():
    theirs = keras.layers.MultiHeadAttention(3, 4)
    expected = theirs(X, X)
    np.testing.assert_allclose(Residual(theirs, norm=None)(X), X + expected, atol=1e-6)
    both = Parallel(theirs, keras.layers.Dense(12, kernel_initializer="zeros"))
    np.testing.assert_allclose(both(X), expected, atol=1e-6)
    inputs = keras.Input((None, 12))
    assert keras.Model(inputs, Residual(keras.layers.MultiHeadAttention(3, 4))(inputs))(X).shape == X.shape


def test_a_position_of_the_template_stays():
    own = MultiHeadAttention(3, 4, position=RelativePositionBias(3))
    encoder = Encoder(2, intermediate_dim=7, attention=own, position=RotaryPositionEncoding())
    encoder(X)
    positions = [block.self_attention.layer.position for block in encoder.blocks]
    assert [type(position) for position in positions] == [RelativePositionBias] * 2
    assert len({id(x) for x in (*positions, own.position)}) == 3


def test_call_arguments():
    given = {"attention_mask": np.ones((5, 5), bool), "positions": np.arange(5)[None], "segments": np.zeros((2, 5))}
    given |= {"bias": np.zeros((5, 5), "float32")}
    listening = EncoderBlock(attention=Listening(), intermediate_dim=7)
    listening(X, inputs_mask=REAL, **given)
    assert listening.self_attention.layer.heard.keys() == {
        "inputs",
        "query_mask",
        "attention_mask",
        "positions",
        "segments",
        "bias",
    }
    block = EncoderBlock(attention=Mean(), intermediate_dim=7)
    for name, value in given.items():
        with pytest.raises(ValueError, match=f"`{name}` must be None in a block .*class Mean"):
            block(X, **{name: value})


def test_arguments_that_a_template_stands_in_for():
    attention, short = MultiHeadAttention(3, 4), {"intermediate_dim": 7, "attention": MultiHeadAttention(3, 4)}
    for name, value in {"window": 2, "attention_options": {"qk_norm": True}, "key_dim": 4, "num_kv_heads": 1}.items():
        with pytest.raises(ValueError, match=f"`{name}` must be None with `attention`.*{name}="):
            Encoder(2, **short, **{name: value})
    for name in ("key_dim", "num_kv_heads"):
        DecoderBlock(3, **short, **{name: 1})
        with pytest.raises(ValueError, match=f"`{name}` must be None with `attention`"):
            DecoderBlock(3, **short, **{name: 1}, cross_attention=False)
    for make in (EncoderBlock, lambda **kwargs: Decoder(2, cross_attention=False, **kwargs)):
        with pytest.raises(ValueError, match="`num_heads` must be a positive integer"):
            make(intermediate_dim=7)
        make(**short)
    with pytest.raises(ValueError, match="`num_heads` must be a positive integer"):
        DecoderBlock(**short)
    for stray in ("latent", MultiHeadAttention, 3):
        with pytest.raises(ValueError, match="`attention` must be a Keras layer"):
            EncoderBlock(attention=stray, intermediate_dim=7)
    mixed = Encoder(2, 3, 7, attention=attention, layer_options=[{}, {"attention": None, "window": 2}])
    assert [block.window for block in mixed.blocks] == [None, 2]


def test_positions_and_causality_need_a_place():
    with pytest.raises(ValueError, match=r"`position` must only add to embeddings .*RotaryPositionEncoding acts"):
        EncoderBlock(attention=Mean(), intermediate_dim=7, position=RotaryPositionEncoding())(X)
    EncoderBlock(attention=Mean(), intermediate_dim=7, position=LearnedPositionEmbedding(5))(X)
    with pytest.raises(ValueError, match="`position` must be a PositionEncoding layer"):
        EncoderBlock(attention=MultiHeadAttention(3, 4), intermediate_dim=7, position=Mean())(X)
    for layer in (Mean(), Listening()):
        with pytest.raises(ValueError, match="`attention` of a causal block must have an argument `causal`, or"):
            DecoderBlock(attention=layer, intermediate_dim=7, cross_attention=False)(X)
        DecoderBlock(attention=layer, intermediate_dim=7, cross_attention=False, causal=False)(X)
    for parallel in (False, True, "two_norms"):
        block = DecoderBlock(attention=Causal(), intermediate_dim=7, cross_attention=False, parallel=parallel)
        assert np.all(np.isfinite(block(X, inputs_mask=REAL)))


def test_init_gain():
    x = np.ones((1, 2, 256), "float32")
    ratios = {}
    for gain in (1.0, 0.25):
        block = EncoderBlock(intermediate_dim=256, attention=MultiHeadAttention(4, 64), init_gain=gain)
        block(x)
        for weight in block.self_attention.layer.weights:
            if weight.name == "kernel":
                ratios[weight.path.split("/")[-2]] = np.std(weight) / ratios.get(weight.path.split("/")[-2], 1.0)
    expected = {"query": 1.0, "key": 1.0, "value": 0.25, "attention_output": 0.25}
    assert ratios.keys() == expected.keys()
    for name, ratio in expected.items():
        np.testing.assert_allclose(ratios[name], ratio, rtol=0.05)
    constant = MultiHeadAttention(4, 64, value_initializer=keras.initializers.Constant(2.0))
    block = EncoderBlock(intermediate_dim=256, attention=constant, init_gain=0.25)
    block(x)
    np.testing.assert_array_equal(block.self_attention.layer.value_dense.kernel, 0.5)
    encoder = Encoder(2, intermediate_dim=7, attention=keras.layers.GroupQueryAttention(4, 4, 2), norm="deepnorm")
    encoder(X)
    scale = 16**-0.25
    kernels = [block.self_attention.layer.weights[0] for block in encoder.blocks]
    assert all(np.abs(kernel).max() <= scale * (6 / (12 + 16)) ** 0.5 for kernel in kernels)
    with pytest.raises(ValueError, match=r"`attention` must hold layers with a `kernel_initializer`.*init_gain"):
        Encoder(2, intermediate_dim=7, attention=keras.layers.MultiHeadAttention(3, 4), norm="deepnorm")(X)


def test_a_cache_of_any_tuple():
    decoder = randomised(Decoder(2, intermediate_dim=7, attention=Cached(), cross_attention=False), X)
    whole, caches, pieces = decoder(X), ((), ()), []
    for start, stop in ((0, 2), (2, 3), (3, 5)):
        positions = np.arange(start, stop)[None]
        piece, caches = decoder(X[:, start:stop], positions=positions, caches=caches)
        pieces.append(piece)
    assert [[x.shape for x in layer] for layer in caches] == [[(2, 1, 5, 12)]] * 2
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=1e-4)
    assert decoder.blocks[0].attention_span() is None
    with pytest.raises(ValueError, match=r"`attention` must have a method `empty_cache\(batch, length\)`.*Cached"):
        decoder.empty_caches(2, 5)


def test_layers_that_cannot_generate():
    theirs = keras.layers.MultiHeadAttention(2, 4)
    model = LanguageModel(20, 1, 8, 2, 16, attention=theirs, position=LearnedPositionEmbedding(9))
    ids = np.array([[5, 6, 7]])
    assert model(ids).shape == (1, 3, 20)
    with pytest.raises(ValueError, match=r"`positions`, `cache` must be None .* of class MultiHeadAttention"):
        model.generate(ids, max_length=2)
    translator = Transformer(20, 1, 12, 2, 16, attention=Causal())
    with pytest.raises(ValueError, match=r"`attention` must have a method `empty_cache.*Causal"):
        translator.generate(ids, max_length=2)


def test_a_translator_has_the_template_in_both_stacks():
    model = Transformer(20, 1, 12, 2, 16, attention=MultiHeadAttention(3, 4, qk_norm=True), dropout=0.0)
    encoder, decoder = (stack.blocks[0].self_attention.layer for stack in (model.encoder, model.decoder))
    assert (encoder.causal, decoder.causal) == (False, True)
    assert model.decoder.blocks[0].cross_attention.layer.num_heads == 2
    ids = np.array([[5, 6, 7]])
    config = GenerationConfig(4, start_id=1, end_id=19)
    tokens, target = np.asarray(model.generate(ids, config=config))[0], [1]
    for token in tokens:
        assert token == np.argmax(model({"source_ids": ids, "target_ids": np.array([target])})[0, -1])
        target.append(token)


@pytest.mark.parametrize("argument", ["attention", "feed_forward"])
def test_sublayers_without_a_build_have_their_weights_in_files(argument, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = EncoderModel(20, 2, 12, 2, 16, **{argument: Mean()})
    number = len(model.weights)
    ids = np.array([[5, 6, 7], [8, 9, 0]])
    expected = model(ids)
    assert len(model.weights) == number
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Mean": Mean})
    np.testing.assert_array_equal(loaded(ids), expected)


def test_templates_are_live_layers_of_any_class():
    layers = [Mean(lambda x: 3 * x), Mean(lambda x: 3 * x)]
    encoder = Encoder(2, intermediate_dim=7, attention=layers[0], layer_options=[{}, {"attention": layers[1]}])
    encoder(X)
    first, second = (block.self_attention.layer for block in encoder.blocks)
    assert (first.function, second.function) == (layers[0].function, layers[1].function)
    assert first.dense is not second.dense
    assert not layers[0].dense.built
    assert first.name == "attention"


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_stack_with_templates_in_a_file(dtype, tmp_path):
    attention = keras.layers.GroupQueryAttention(4, 4, 2, kernel_initializer="he_normal")
    encoder = Encoder(2, intermediate_dim=7, attention=attention, remat=True, dtype=dtype)
    inputs = keras.Input((None, 12))
    model = keras.Model(inputs, encoder(inputs))
    encoder.blocks[1].self_attention.layer.trainable = False
    assert encoder.blocks[0].self_attention.layer.compute_dtype == dtype[-7:]
    clone = Encoder.from_config(json.loads(json.dumps(encoder.get_config())))
    assert json.dumps(clone.get_config()) == json.dumps(encoder.get_config())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    assert [weight.trainable for weight in loaded.weights] == [weight.trainable for weight in model.weights]
    assert len(loaded.trainable_weights) == len(loaded.weights) - 8


@pytest.mark.parametrize("attention", [MultiHeadAttention(3, 4), keras.layers.MultiHeadAttention(3, 4), Causal()])
def test_remat_with_templates_changes_no_gradient(attention):
    results = []
    for remat in (False, True):
        decoder = Decoder(2, intermediate_dim=7, attention=attention, cross_attention=False, remat=remat)
        randomised(decoder, X)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(decoder(X, inputs_mask=REAL, training=True)))
        gradients = tape.gradient(loss, [weight.value for weight in decoder.trainable_weights])
        results.append([loss, *map(tf.convert_to_tensor, gradients)])
    for plain, again in zip(*results, strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (keras.layers.LSTM(8, return_sequences=True, return_state=True), "must return one tensor .* 3 results"),
        (keras.layers.Dense(5), r"must return the shape of its inputs.*Dense returned \(1, 2, 5\) for \(1, 2, 8\)"),
    ],
    ids=["several", "width"],
)
def test_outputs_that_do_not_fit(attention, message):
    block = EncoderBlock(attention=attention, intermediate_dim=8)
    with pytest.raises(ValueError, match=message):
        block(np.ones((1, 2, 8), "float32"))
