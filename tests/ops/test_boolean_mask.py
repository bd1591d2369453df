"""Masks are boolean: floats, which torch adds to the logits, are refused wherever a mask is given."""

import inspect

import keras
import numpy as np
import pytest

from keras_attn import layers, ops
from keras_attn.layers.base.boolean_masks import BooleanMasks
from keras_attn.ops import cache_slots
from keras_attn.ops.boolean_mask import boolean

X, LOGITS = np.ones((2, 4, 3), "float32"), np.ones((2, 4), "float32")
FLOATS = np.where(np.tri(2, 4), 0, -np.inf).astype("float32")
OPS = {
    "query_mask": lambda mask: ops.AttentionMask(query_mask=mask),
    "key_mask": lambda mask: ops.AttentionMask(key_mask=mask),
    "explicit": lambda mask: ops.AttentionMask(explicit=mask[None, None]),
    "masked_softmax": lambda mask: ops.masked_softmax(LOGITS, mask),
    "soft_monotonic": lambda mask: ops.soft_monotonic(LOGITS, LOGITS, mask),
    "hard_monotonic": lambda mask: ops.hard_monotonic(LOGITS, LOGITS, mask),
    "masked_mean": lambda mask: ops.masked_mean(X, mask),
    "first_token": lambda mask: ops.first_token(X, mask),
    "load_balancing_loss": lambda mask: ops.load_balancing_loss(X, X, mask),
    "router_z_loss": lambda mask: ops.router_z_loss(X, mask),
    "scan": lambda mask: ops.scan(lambda x, state: (x, state), X, LOGITS, mask),
    "of_prompt": lambda mask: cache_slots.of_prompt(mask, 3),
    "of_window": lambda mask: cache_slots.of_window(mask, 2, 1),
}


@pytest.mark.parametrize("name", OPS)
def test_ops_refuse_float_masks(name):
    with pytest.raises(ValueError, match=r"must be boolean.* `bias=`"):
        OPS[name](FLOATS)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_no_kind_of_float_is_a_mask(dtype):
    with pytest.raises(ValueError, match=f"`mask` must be boolean.* dtype {dtype}"):
        boolean("mask", keras.ops.ones((2,), dtype))


def test_what_is_a_mask():
    for mask in ([True, False], [1, 0], np.array([1, 0], "uint8"), keras.ops.convert_to_tensor([1, 0], "int64")):
        np.testing.assert_array_equal(boolean("mask", mask), [True, False])
    assert boolean("mask", None) is None
    with pytest.raises(ValueError, match="`mask` must be boolean"):
        boolean("mask", [0.0, -np.inf])


@pytest.mark.parametrize("kernel", ["dense", "blockwise", "local", "linear"])
def test_kernels_take_no_arrays_for_masks(kernel):
    x = np.ones((1, 2, 4, 3), "float32")
    with pytest.raises(ValueError, match=r"`mask` must be an AttentionMask.* `bias=`"):
        getattr(ops, f"{kernel}_attention")(x, x, x, mask=np.zeros((4, 4), "float32"))


def test_every_mask_of_a_layer_is_looked_at():
    for name in layers.__all__:
        layer = getattr(layers, name)
        if not inspect.isclass(layer) or not issubclass(layer, keras.layers.Layer):
            continue
        masks = [x for x in inspect.signature(layer.call).parameters if "mask" in x]
        assert not masks or issubclass(layer, BooleanMasks), name
        assert all(x == "mask" or x.endswith("_mask") for x in masks), name


def test_a_float_mask_of_keras_is_refused_too():
    x = keras.ops.convert_to_tensor(X)
    x._keras_mask = keras.ops.ones((2, 4))
    for layer in (layers.MultiHeadAttention(1, 3), layers.MeanPooling(), layers.EncoderBlock(1, 4)):
        with pytest.raises(ValueError, match=r"must be boolean"):
            layer(x)


def test_booleans_are_no_bias():
    with pytest.raises(ValueError, match=r"`bias` must be float.* `attention_mask=`"):
        layers.MultiHeadAttention(1, 3)(X, bias=np.tri(4, dtype=bool))
