"""Images and audio as sequences of vectors."""

from functools import partial

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from harness import LayerCase, pairs, run_check
from harness_export import check_export
from samples import DV, D, lengths, normal

from keras_attn.layers import (
    AudioFrontEnd,
    ConvolutionalEmbedding,
    ConvolutionalPositionEncoding,
    EncoderBlock,
    PatchEmbedding,
)

ROWS, COLUMNS, C = 2, 3, 5


def whole(rng, B, T, S):
    return {"images": normal(rng, B, ROWS * T, COLUMNS * S, C)}


def ragged(rng, B, T, S):
    return {"images": normal(rng, B, max(ROWS * T - 1, 0), max(COLUMNS * S - 2, 0), C)}


def fixed(rng, B, T, S):
    return {"images": normal(rng, B, 7, 11, C)}


def patches_oracle(weights, images, class_token=False):
    """A patch at a time; the class token's weight comes first."""
    *token, kernel, bias = weights
    missing = [-size % patch for size, patch in zip(images.shape[1:3], (ROWS, COLUMNS), strict=True)]
    images = np.pad(images, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))
    vectors = [
        images[:, r : r + ROWS, c : c + COLUMNS].reshape(len(images), -1) @ kernel + bias
        for r in range(0, images.shape[1], ROWS)
        for c in range(0, images.shape[2], COLUMNS)
    ]
    if class_token:
        vectors.insert(0, np.repeat(token[0][0], len(images), axis=0))
    return np.stack(vectors, axis=1)


def overlapping(rng, B, T, S):
    return {"images": normal(rng, B, ROWS + T, COLUMNS + 2 * S, C)}


def overlapping_oracle(weights, images):
    """Two tokens, then patches at every row and every second column."""
    first, second, kernel, bias = weights
    vectors = [np.repeat(token[0], len(images), axis=0) for token in (first, second)]
    vectors += [
        images[:, r : r + ROWS, c : c + COLUMNS].reshape(len(images), -1) @ kernel + bias
        for r in range(images.shape[1] - ROWS + 1)
        for c in range(0, images.shape[2] - COLUMNS + 1, 2)
    ]
    return np.stack(vectors, axis=1)


def patch_case(name, inputs, oracle_kwargs=None, bad=(), truth=patches_oracle, **config):
    return LayerCase(
        f"patch_embedding_{name}",
        partial(PatchEmbedding, patch_size=(ROWS, COLUMNS), hidden_dim=D, **config),
        inputs,
        partial(truth, **(oracle_kwargs or {})),
        bad=bad,
    )


def audio(rng, B, T, S):
    return {"inputs": normal(rng, B, T, C), "inputs_mask": lengths(B, T)}


def audio_oracle(weights, inputs, inputs_mask, strides, activation):
    """A row at a time, alone."""
    stride = int(np.prod(strides))
    outputs = np.zeros((len(inputs), -(-inputs.shape[1] // stride), weights[-1].shape[0]))
    for row, (x, mask) in enumerate(zip(inputs, inputs_mask, strict=True)):
        x = x[mask]
        for i, step in enumerate(strides):
            x = oracle.strided_convolution(*weights[2 * i : 2 * i + 2], x, step, activation)
        outputs[row, : len(x)] = x
    return outputs


def audio_case(name, strides, activation="gelu", bad=(), **config):
    return LayerCase(
        f"audio_front_end_{name}",
        partial(AudioFrontEnd, hidden_dim=D, strides=strides, activation=activation, **config),
        audio,
        partial(audio_oracle, strides=strides, activation=activation),
        {"inputs": "inputs_mask"},
        bad,
        output_mask=lambda mask: mask[:, :: int(np.prod(strides))],
    )


VALID = {"kernel_size": (2, 2), "strides": (1, 2), "padding": "valid"}


def valid_mask(mask):
    """A frame is real if its whole window is."""
    for window, step in zip(VALID["kernel_size"], VALID["strides"], strict=True):
        starts = range(0, mask.shape[1] - window + 1, step)
        windows = [mask[:, i : i + window].all(axis=1) for i in starts]
        mask = np.stack(windows, axis=1) if windows else mask[:, :0]
    return mask


def valid_oracle(weights, inputs, inputs_mask, norm):
    """A row at a time, alone, and a window at a time."""
    mask, weights = valid_mask(inputs_mask), list(weights)
    outputs = np.zeros((*mask.shape, D if norm == "group" else DV))
    convolutions = [weights[:2], weights[4:6]]
    norms = [weights[2:4], weights[6:]][: 1 if norm == "group" else 2]
    for row, (x, real) in enumerate(zip(inputs, inputs_mask, strict=True)):
        x = x[real]
        for i, (window, step) in enumerate(zip(VALID["kernel_size"], VALID["strides"], strict=True)):
            kernel, bias = convolutions[i]
            frames = [x[t : t + window].ravel() @ kernel + bias for t in range(0, len(x) - window + 1, step)]
            x = np.reshape(frames, (-1, len(bias)))
            if i < len(norms):
                axis = 0 if norm == "group" else -1
                x = x - x.mean(axis, keepdims=True)
                x = x / np.sqrt((x**2).mean(axis, keepdims=True) + 1e-3) * norms[i][0] + norms[i][1]
            x = oracle.ACTIVATIONS["gelu"](x)
        if norm == "group":
            gamma, beta, kernel, bias = weights[6:]
            x = x - x.mean(-1, keepdims=True)
            x = (x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * gamma + beta) @ kernel + bias
        outputs[row, : len(x)] = x
    return outputs


def valid_case(norm, bad=(), **config):
    return LayerCase(
        f"audio_front_end_valid_{norm}",
        partial(AudioFrontEnd, hidden_dim=(4, DV), norm=norm, norm_epsilon=1e-3, **VALID, **config),
        audio,
        partial(valid_oracle, norm=norm),
        {"inputs": "inputs_mask"},
        bad,
        output_mask=valid_mask,
    )


def convolutional_oracle(weights, inputs, inputs_mask):
    filters, bias = weights
    inputs = inputs * inputs_mask[..., None]
    window, width, _ = filters.shape
    padded = np.pad(inputs, ((0, 0), (window // 2, (window - 1) // 2), (0, 0)))
    y = np.zeros_like(inputs)
    for t, channel in np.ndindex(inputs.shape[1:]):
        group = slice(channel // width * width, (channel // width + 1) * width)
        y[:, t, channel] = np.einsum("bkc,kc->b", padded[:, t : t + window, group], filters[..., channel])
    return (inputs + oracle.ACTIVATIONS["gelu"](y + bias)) * inputs_mask[..., None]


def windows(images, window, stride, value):
    """`(B, height, width, window, window, C)`: the windows centred at every `stride`-th row and column."""
    ends = ((window - 1) // 2, window // 2)
    images = np.pad(images, ((0, 0), ends, ends, (0, 0)), constant_values=value)
    found = np.lib.stride_tricks.sliding_window_view(images, (window, window), (1, 2))[:, ::stride, ::stride]
    return np.moveaxis(found, 3, -1)


def convolutional_embedding_oracle(weights, images, strides, pool_strides, activation):
    """A convolution and a maximum per window; with biases, which follow their filters."""
    parts = [weights] if len(weights) == 1 else [weights[i : i + 2] for i in range(0, len(weights), 2)]
    for filters, *bias in parts:
        images = np.einsum("bhwijc,ijcd->bhwd", windows(images, len(filters), strides, 0.0), filters) + sum(bias)
        images = windows(oracle.ACTIVATIONS[activation](images), 3, pool_strides, -np.inf).max(axis=(3, 4))
    return images.reshape(len(images), -1, images.shape[-1])


def convolutional_case(name, hidden_dim, strides=1, pool_strides=2, activation="relu", bad=(), **config):
    settings = {"strides": strides, "pool_strides": pool_strides, "activation": activation}
    return LayerCase(
        f"convolutional_embedding_{name}",
        partial(ConvolutionalEmbedding, hidden_dim=hidden_dim, **settings, **config),
        lambda rng, B, T, S: {"images": normal(rng, B, T + 1, S + 2, C)},
        partial(convolutional_embedding_oracle, **settings),
        bad=bad,
    )


CASES = [
    convolutional_case(
        "relu",
        D,
        bad=(
            ({"hidden_dim": ()}, r"`hidden_dim` must hold the channels of one convolution or more"),
            ({"hidden_dim": (4, 0)}, "`hidden_dim`"),
            ({"kernel_size": 0}, "`kernel_size`"),
            ({"pool_strides": 0.5}, "`pool_strides`"),
            ({"images": np.ones((2, 6, C), "float32")}, r"`images` must have rank 4.*\(2, 6, 5\)"),
        ),
    ),
    convolutional_case("two", (4, D), strides=2, pool_strides=1, activation="gelu", kernel_size=4, use_bias=True),
    LayerCase(
        "convolutional_position",
        partial(ConvolutionalPositionEncoding, kernel_size=4, groups=2),
        lambda rng, B, T, S: {"inputs": normal(rng, B, T, 6), "inputs_mask": lengths(B, T)},
        convolutional_oracle,
        {"inputs": "inputs_mask"},
        (({"kernel_size": 0}, "`kernel_size`"), ({"groups": 4}, "`groups` must divide the 6 channels")),
    ),
    valid_case("layer", (({"norm": "batch"}, "`norm` None, 'layer' or 'group'.*norm='batch'"),)),
    valid_case(
        "group",
        (({"kernel_size": (3,)}, "`kernel_size` must have one entry for each of the 2 `strides`"),),
        output_dim=D,
    ),
    patch_case(
        "overlapping",
        overlapping,
        bad=(
            ({"strides": 0}, "`strides`"),
            ({"padding": "same"}, "`padding` must be 'valid' with `strides`"),
            ({"class_token": False}, "`distillation_token` must be False without a class token"),
            ({"images": np.ones((2, 1, 6, C), "float32")}, "`images` must be at least as large as patch_size"),
        ),
        truth=overlapping_oracle,
        strides=(1, 2),
        class_token=True,
        distillation_token=True,
    ),
    patch_case(
        "valid",
        whole,
        bad=(
            ({"patch_size": 0}, "`patch_size`"),
            ({"patch_size": (1, 2, 3)}, "`patch_size` must be an integer or a pair"),
            ({"hidden_dim": -1}, "`hidden_dim`"),
            ({"padding": "half"}, "`padding` must be 'valid' or 'same'. Received: padding='half'"),
            ({"images": np.ones((2, 4, 6), "float32")}, "`images` must have rank 4"),
            ({"images": np.ones((2, 4, 7, C), "float32")}, r"multiples of patch_size=\(2, 3\).*\(2, 4, 7, 5\)"),
        ),
    ),
    patch_case("class_token", whole, {"class_token": True}, class_token=True),
    patch_case("same", ragged, padding="same"),
    patch_case("same_fixed", fixed, padding="same"),
    audio_case(
        "whisper",
        (1, 2),
        bad=(
            ({"hidden_dim": 0}, "`hidden_dim`"),
            ({"kernel_size": 0}, "`kernel_size`"),
            ({"strides": ()}, "`strides`"),
            ({"strides": (1, 0)}, "`strides`"),
            ({"inputs": np.ones((2, C), "float32"), "inputs_mask": None}, "`inputs` must have rank 3"),
            ({"inputs_mask": np.ones((2, 4), "bool")}, "`inputs_mask` must have"),
        ),
    ),
    audio_case("stem", (1,), "gelu", kernel_size=4),
    audio_case("samples", (3, 2), "silu", kernel_size=2),
]


@pytest.mark.parametrize(("check", "case"), pairs(CASES))
def test_layer(check, case, tmp_path):
    run_check(check, case, tmp_path)


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    check_export(CASES, format_name, tmp_path)


@pytest.mark.peer("PatchEmbedding", "keras.layers.Conv2D")
@pytest.mark.parametrize(
    ("padding", "size"), [("valid", (6, 12)), ("same", (6, 12)), ("same", (7, 11)), ("same", (5, 13))]
)
def test_patches_are_a_convolution(padding, size):
    theirs = keras.layers.Conv2D(D, (ROWS, COLUMNS), (ROWS, COLUMNS), padding=padding, bias_initializer="normal")
    ours = PatchEmbedding((ROWS, COLUMNS), D, padding=padding)
    images = normal(np.random.default_rng(0), 2, *size, C)
    expected = theirs(images)
    ours(images)
    ours.set_weights([w.reshape(v.shape) for w, v in zip(theirs.get_weights(), ours.weights, strict=True)])
    np.testing.assert_allclose(ours(images), np.reshape(expected, (2, -1, D)), atol=1e-5)


def test_valid_leaves_out_what_is_over_where_it_learns_the_size_too_late():
    layer = PatchEmbedding((ROWS, COLUMNS), D)
    images = normal(np.random.default_rng(0), 2, 7, 11, C)
    expected = layer(images[:, :6, :9])
    function = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, C))])
    np.testing.assert_allclose(function(images), expected, atol=1e-6)


@pytest.mark.peer("AudioFrontEnd", "keras.layers.Conv1D")
def test_audio_is_convolutions():
    ours = AudioFrontEnd(D, activation="gelu")
    x = normal(np.random.default_rng(0), 2, 11, C)
    expected = x
    ours(x)
    for convolution, stride in zip(ours.convolutions, (1, 2), strict=True):
        theirs = keras.layers.Conv1D(D, 3, stride, activation="gelu")
        padded = np.pad(expected, ((0, 0), (1, 1), (0, 0)))
        theirs.build(padded.shape)
        convolution.bias.assign(normal(np.random.default_rng(1), D))
        theirs.set_weights([np.reshape(convolution.kernel, theirs.kernel.shape), convolution.bias])
        expected = np.asarray(theirs(padded))
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)


def test_a_shortened_mask_reaches_the_encoder():
    inputs, mask = audio(np.random.default_rng(0), 2, 11, 0).values()
    front_end, block = AudioFrontEnd(12), EncoderBlock(2, 8)
    x = tf.constant(inputs)
    x._keras_mask = tf.constant(mask)
    output = block(front_end(x))
    np.testing.assert_array_equal(output._keras_mask, mask[:, ::2])
    alone = block(front_end(inputs[:1, :9]))
    np.testing.assert_allclose(output[:1, :5], alone, atol=1e-5)
