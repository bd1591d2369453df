"""The Keras masks that layers read and give, which are those that Keras' own layers would."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import layers
from keras_attn.layers.base.layer_normalization import LayerNormalization
from keras_attn.layers.base.normalization import normalization

B, S, T, D = 2, 3, 5, 8
RNG = np.random.default_rng(6)


def masked(*shape, axes=None):
    """Floats and a mask of all axes but the last, or of as many as are said."""
    x = tf.constant(RNG.standard_normal(shape), "float32")
    mask = RNG.random(shape[: axes or -1]) < 0.7
    mask[..., 0] = True
    x._keras_mask = tf.constant(mask)
    return x


def moe():
    return layers.MixtureOfExperts(num_experts=2, intermediate_dim=4)


def own_attention(**options):
    return layers.MultiHeadAttention(2, 4, **options)


MEMORY = masked(B, 4, D)
CELL = layers.AttentionCell(keras.layers.GRUCell(D), layers.AdditiveAttention(6), attention_dim=4)
ALIGNMENTS = {
    "additive": layers.AdditiveAttention(4),
    "Luong's": layers.LuongAttention("general"),
    "monotonic": layers.MonotonicAttention(layers.AdditiveAttention(4)),
    "location-sensitive": layers.LocationSensitiveAttention(4),
}
# Their first output has the mask of their input, others have none.
PASSING = {
    "layer norm": LayerNormalization(),
    "RMS norm": normalization("rms", 1e-5, None, "norm"),
    "feed-forward": layers.FeedForward(4),
    "gated": layers.GatedFeedForward(4),
    "experts": moe(),
    "projection": layers.Projection("abc,cd->abd", (None, 3)),
    "residual": layers.Residual(layers.FeedForward(4), dropout=0.1),
    "parallel": layers.Parallel(layers.FeedForward(4), layers.GatedFeedForward(4)),
    "encoder block": layers.EncoderBlock(2, 4),
    "encoder": layers.Encoder(2, 2, 4, norm="post"),
    "decoder block": layers.DecoderBlock(2, 4, cross_attention=False),
    "decoder block with memory": lambda x: layers.DecoderBlock(2, 4)(x, MEMORY),
    "decoder": layers.Decoder(1, 2, 4, cross_attention=False),
    "decoder with caches": lambda x: layers.Decoder(1, 2, 4, cross_attention=False)(
        x, caches=((),), positions=tf.range(T)[None]
    ),
    "attention": own_attention(),
    "attention to a memory": lambda x: own_attention()(x, MEMORY),
    "attention with scores": lambda x: own_attention()(x, return_attention_scores=True),
    "token types": layers.TokenTypeEmbedding(2),
    "learned positions": layers.LearnedPositionEmbedding(9),
    "sinusoids": layers.SinusoidalPositionEncoding(),
    "rotary": layers.RotaryPositionEncoding(),
    "ALiBi": layers.ALiBiPositionBias(2),
    "recurrence": layers.Recurrence(keras.layers.GRUCell(4), return_sequences=True, return_state=True),
    "both directions": keras.layers.Bidirectional(layers.Recurrence(keras.layers.GRUCell(4), return_sequences=True)),
    "recurrent attention": lambda x: layers.AttentionRNN(CELL)(
        x, MEMORY, return_attention_scores=True, return_state=True
    ),
    **{name: lambda x, a=a: a(x, MEMORY, return_attention_scores=True) for name, a in ALIGNMENTS.items()},
}


@pytest.mark.parametrize("name", PASSING)
def test_sequences_keep_their_mask(name):
    x = masked(B, T, D)
    first, *rest = keras.tree.flatten(PASSING[name](x))
    np.testing.assert_array_equal(first._keras_mask, x._keras_mask)
    assert all(getattr(y, "_keras_mask", None) is None for y in rest)


@pytest.mark.parametrize(
    "layer",
    [
        layers.MeanPooling(),
        layers.FirstTokenPooling(),
        layers.AttentionPooling(),
        layers.Recurrence(keras.layers.GRUCell(4)),
    ],
    ids=lambda x: x.name,
)
def test_what_has_no_length_has_no_mask(layer):
    assert getattr(layer(masked(B, T, D)), "_keras_mask", None) is None


@pytest.mark.parametrize("shape", [(B, S, T, D), (B, 2, S, T, D)])
def test_more_axes_keep_their_mask(shape):
    x, rank = masked(*shape), len(shape)
    letters = "abcdef"[:rank]
    projection = layers.Projection(f"{letters},{letters[-1]}z->{letters[:-1]}z", (None,) * (rank - 2) + (3,))
    for layer in (LayerNormalization(), projection, own_attention(), own_attention(attention_axes=rank - 2)):
        np.testing.assert_array_equal(layer(x)._keras_mask, x._keras_mask)


def test_frames_have_every_stride_th():
    x = masked(B, T, D)
    np.testing.assert_array_equal(layers.AudioFrontEnd(4)(x)._keras_mask, x._keras_mask[:, ::2])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_embedded_ids_have_kerass_mask(rank, dtype):
    ids = tf.constant(RNG.integers(0, 3, (4, 3, 2, 5)[4 - rank :]), dtype)
    ours, theirs = (make(9, D, mask_zero=True) for make in (layers.TokenEmbedding, keras.layers.ReversibleEmbedding))
    vectors = ours(ids)
    np.testing.assert_array_equal(vectors._keras_mask, theirs(ids)._keras_mask)
    assert getattr(ours(vectors, reverse=True), "_keras_mask", None) is None
    assert getattr(ours(tf.ones((3, D)), reverse=True), "_keras_mask", None) is None
    ours.quantize("int8")
    np.testing.assert_array_equal(ours(ids)._keras_mask, vectors._keras_mask)


IDS = np.array([[[1, 2, 0, 0], [3, 0, 0, 0]]])


# Where the weights of padding are in the scores of queries that are real.
@pytest.mark.parametrize(
    ("axes", "padding"),
    [
        (1, np.s_[0, 1, :, 0, 1]),
        (2, np.s_[0, 0, :, 0, 2:]),
        (-2, np.s_[0, 1, :, 0, 1:]),
        ((1, 2), np.s_[..., IDS[0] == 0]),
        (None, np.s_[..., IDS[0] == 0]),
    ],
)
def test_padding_of_documents_is_not_attended_to(axes, padding):
    vectors = layers.TokenEmbedding(10, D, mask_zero=True)(IDS)
    _, scores = own_attention(attention_axes=axes)(vectors, return_attention_scores=True)
    np.testing.assert_array_equal(np.asarray(scores)[padding], 0)
    assert np.asarray(scores).max() > 0


@pytest.mark.parametrize(
    "layer",
    [
        layers.MeanPooling(),
        layers.FirstTokenPooling(),
        layers.AttentionPooling(),
        layers.EncoderBlock(2, 4),
        layers.Encoder(1, 2, 4),
        layers.DecoderBlock(2, 4, cross_attention=False),
        layers.Decoder(1, 2, 4, cross_attention=False),
        layers.AudioFrontEnd(4, strides=(1,)),
        moe(),
    ],
    ids=lambda x: x.name,
)
def test_wrappers_of_keras_hand_the_mask_on(layer):
    x, mask = masked(B, S, T, D), np.ones((B, S, T), "bool")
    mask[..., 0] = mask[:, 1, 2:] = False
    x._keras_mask = tf.constant(mask)
    expected = []
    for i in range(S):
        sentence = x[:, i]
        sentence._keras_mask = tf.constant(mask[:, i])
        expected.append(layer(sentence))
    np.testing.assert_allclose(keras.layers.TimeDistributed(layer)(x), np.stack(expected, 1), atol=1e-6)
    assert not np.allclose(layer(x[:, 1]), expected[1], atol=1e-4)
