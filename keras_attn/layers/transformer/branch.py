"""Building and calling of the layers in residual wrappers and parallel layers."""

import contextlib
import functools
import inspect

import keras

from keras_attn import compat


def needs_value(layer):
    """Whether a layer's `call` has a `value` without a default, as that of `keras.layers.MultiHeadAttention`."""
    return _requires_value(type(layer).call)


@functools.cache
def _requires_value(call):
    value = inspect.signature(call).parameters.get("value")
    return value is not None and value.default is value.empty


def build_branch(layer, inputs_shape, memory_shape=None):
    """Builds a layer for `call_branch`, unless it is built."""
    if layer.built:
        return
    value_shape = inputs_shape if memory_shape is None and needs_value(layer) else None
    if type(layer).build is keras.layers.Layer.build and not all(part.built for part in compat.sublayers_of(layer)):
        # Without `build`, sub-layers create their weights in a call; files saved before it would lack them.
        x = keras.KerasTensor(inputs_shape, dtype=layer.compute_dtype)
        with contextlib.suppress(Exception):
            layer(x, **({} if value_shape is None else {"value": x}))
    if not layer.built:
        takes_several = len(inspect.signature(layer.build).parameters) > 1
        second = memory_shape if memory_shape is not None else value_shape if takes_several else None
        layer.build(inputs_shape, *([] if second is None else [second]))


def call_branch(layer, inputs, memory=None, use_causal_mask=None, **kwargs):
    """Calls a layer with the inputs and an optional memory; without one, with the inputs as `value` if required.

    `memory` and `use_causal_mask` are only passed on if they are not None.

    Returns:
        `(output, rest)`, with the list `rest` of further results.
    """
    if memory is None and needs_value(layer):
        kwargs["value"] = inputs
    if use_causal_mask is not None:
        kwargs["use_causal_mask"] = use_causal_mask
    output = layer(inputs, *([] if memory is None else [memory]), **kwargs)
    output, *rest = output if isinstance(output, tuple) else (output,)
    return output, rest
