"""Layers that stand in for one of Keras' take its arguments, or say which they do not."""

import json

import keras
import numpy as np
import pytest

from keras_attn.layers import Parallel, Projection
from keras_attn.layers.base.layer_normalization import LayerNormalization

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")


def check_same(layer, theirs):
    """Same weights and outputs, also of a copy by config."""
    rng = np.random.default_rng(1)
    theirs(X)
    weights = [rng.normal(size=weight.shape) for weight in theirs.weights]
    copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    for made in (theirs, layer, copy):
        made(X)
        made.set_weights(weights)
        np.testing.assert_allclose(made(X), theirs(X), rtol=1e-5, atol=1e-6)
    assert len(layer.losses) == len(theirs.losses) == len(copy.losses)


@pytest.mark.parametrize(
    ("equation", "shape", "bias_axes"),
    [
        ("abc,cd->abd", (3, 5), "bd"),
        ("abc,cd->abd", (3, 5), "b"),
        ("abc,cd->abd", (3, 5), "ad"),
        ("abc,cde->abde", (3, 5, 6), "be"),
        ("abc,cde->abde", (None, 5, 6), "d"),
        ("abc,bcd->ad", (5,), "a"),
        ("...c,cd->...d", (3, 5), "d"),
    ],
)
def test_projection(equation, shape, bias_axes):
    arguments = {"output_shape": shape, "bias_axes": bias_axes, "activation": "tanh"}
    check_same(Projection(equation, **arguments), keras.layers.EinsumDense(equation, **arguments))


def test_quantised_projection_with_a_bias_along_the_inputs():
    projection = Projection("abc,cd->abd", (3, 5), bias_axes="bd", bias_initializer="glorot_normal")
    expected = projection(X)
    assert projection(X[:0]).shape == (0, 3, 5)
    projection.quantize("int8")
    np.testing.assert_allclose(projection(X), expected, atol=0.05)


@pytest.mark.parametrize(
    "arguments",
    [
        {"center": False},
        {"scale": False},
        {"center": False, "scale": False},
        {"gamma_initializer": "zeros"},
        {"gamma_regularizer": "l2", "beta_constraint": "non_neg", "axis": -1, "epsilon": np.float32(1e-5)},
    ],
)
def test_layer_normalization(arguments):
    check_same(LayerNormalization(**arguments), keras.layers.LayerNormalization(**arguments))


def test_refused_arguments_of_layer_normalization():
    for bad, name in (({"axis": 1}, "axis"), ({"axis": [1, 2]}, "axis"), ({"rms_scaling": True}, "rms_scaling")):
        with pytest.raises(ValueError, match=f"`{name}` must be .*keras.layers"):
            LayerNormalization(**bad)
    with pytest.raises(ValueError, match="bogus"):
        LayerNormalization(bogus=1)


def test_parallel_layers_of_another_width():
    inputs = keras.Input((3, 4))
    layer = Parallel(keras.layers.Dense(7), keras.layers.Dense(7))
    assert layer(inputs).shape == (None, 3, 7)
    assert layer(X).shape == layer.compute_output_shape(X.shape) == (2, 3, 7)
