"""Zeros at padding."""

from keras import ops

from keras_attn.ops.boolean_mask import boolean


def without_padding(x, mask):
    """`x` `(B, T, D)` with zeros where an optional mask `(B, T)` is False."""
    if mask is None:
        return x
    return ops.where(ops.expand_dims(boolean("inputs_mask", mask), -1), x, ops.zeros_like(x))
