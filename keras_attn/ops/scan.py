"""A differentiable scan that compiles under XLA and exports to every format."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops, tree

from keras_attn.ops.arrays import axis_size, shape_of
from keras_attn.ops.boolean_mask import boolean
from keras_attn.ops.seeds import LoopSeeds
from keras_attn.ops.target import current
from keras_attn.typing import Nest, Tensor


def scan(
    step: Callable[[Nest, Nest], tuple[Nest, Nest]], inputs: Nest, state: Nest, mask: Tensor | None = None
) -> tuple[Nest, Nest]:
    """Calls `step(x, state) -> (outputs, state)` for each slice of `inputs` along their first axis.

    The `Target` decides how outputs are collected: without `has_tensor_arrays` (XLA, TFLite), by slice updates;
    otherwise in the backend's own way, which is differentiable.

    Args:
        step: Function of two nests of tensors without the time axis; returns two nests.
        inputs: Nest of tensors `(T, B, ...)`. Without `has_tensor_arrays`, an unknown `T` must be at least 1.
        state: Nest of tensors `(B, ...)`, of the shapes and dtypes that `step` returns.
        mask: Optional bool `(T, B)`. If False, the state is kept and the outputs are zero.

    Returns:
        `(outputs, state)`: outputs `(T, B, ...)`, and the last state.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import scan
    >>> x = np.arange(6, dtype="float32").reshape(3, 2)
    >>> sums, total = scan(lambda x, total: (total + x, total + x), x, np.zeros(2, "float32"))
    >>> np.asarray(sums)
    array([[0., 1.],
           [2., 4.],
           [6., 9.]], dtype=float32)
    """
    inputs, state = tree.map_structure(ops.convert_to_tensor, (inputs, state))
    flat = tree.flatten(inputs) + ([] if mask is None else [boolean("mask", mask)])

    def advance(slices, state):
        real = None if mask is None else slices.pop()
        outputs, new = step(tree.pack_sequence_as(inputs, slices), state)
        new = tree.map_structure(lambda a, b: _like(_where(real, a, b), b), new, state)
        return tree.map_structure(lambda a: _where(real, a, ops.zeros_like(a)), outputs), new

    length = flat[0].shape[0]
    if length == 0:
        # A step for the shapes and dtypes of the outputs only.
        outputs, _ = advance([_empty_slice(x) for x in flat], state)
        return tree.map_structure(lambda a: ops.zeros((0, *shape_of(a)), a.dtype), outputs), state
    if length == 1:
        outputs, state = advance([ops.squeeze(x, 0) for x in flat], state)
        return tree.map_structure(lambda a: ops.expand_dims(a, 0), outputs), state
    if not current().has_tensor_arrays:
        return _scan_by_slice(advance, flat, state)
    if keras.backend.backend() == "tensorflow":
        return _scan_by_tensor_array(advance, flat, state)
    state, outputs = ops.scan(lambda state, slices: advance(list(slices), state)[::-1], state, flat)
    return outputs, state


def _scan_by_slice(advance, flat, state):
    length, seeds = axis_size(flat[0], 0), LoopSeeds()
    # The first step is outside of the loop, to get the shapes of the outputs.
    first, state = advance([x[0] for x in flat], state)
    seeds.first_is_done()
    empty = tree.map_structure(lambda a: ops.zeros((length, *shape_of(a)), dtype=a.dtype), first)
    buffers = tree.map_structure(lambda buffer, a: _write(buffer, a, 0), empty, first)

    def body(time, buffers, state):
        seeds.after(time - 1)
        outputs, state = advance([ops.take(x, time, axis=0) for x in flat], state)
        return time + 1, tree.map_structure(lambda buffer, a: _write(buffer, a, time), buffers, outputs), state

    start = ops.ones((), dtype="int32")
    _, buffers, state = ops.while_loop(lambda time, *_: ops.less(time, length), body, (start, buffers, state))
    seeds.after(length - 1)
    return buffers, state


def _write(buffer, update, time):
    start = (ops.cast(time, "int32"), *[0] * len(update.shape))
    return _like(ops.slice_update(buffer, start, ops.expand_dims(update, 0)), buffer)


def _scan_by_tensor_array(advance, flat, state):
    import tensorflow as tf

    length, seeds = flat[0].shape[0] or tf.shape(flat[0])[0], LoopSeeds()
    slices = [tf.TensorArray(x.dtype, size=length, element_shape=x.shape[1:]).unstack(x) for x in flat]
    # Only the shapes and dtypes of this call are used; the graph prunes the rest.
    like, _ = advance([_empty_slice(x) for x in flat], state)
    seeds.first_is_done()
    arrays = [tf.TensorArray(a.dtype, size=length, element_shape=a.shape) for a in tree.flatten(like)]

    def body(time, arrays, state):
        seeds.after(time)
        outputs, state = advance([x.read(time) for x in slices], state)
        return time + 1, [a.write(time, o) for a, o in zip(arrays, tree.flatten(outputs), strict=True)], state

    _, arrays, state = tf.while_loop(
        lambda time, *_: time < length, body, (tf.constant(0), arrays, state), maximum_iterations=length
    )
    seeds.after(length)
    outputs = [_stacked(array, a) for array, a in zip(arrays, tree.flatten(like), strict=True)]
    for output, a in zip(outputs, tree.flatten(like), strict=True):
        output.set_shape((flat[0].shape[0], *a.shape))
    return tree.pack_sequence_as(like, outputs), state


def _empty_slice(x):
    """Zeros like a slice of `x`, which may be empty."""
    return ops.zeros(shape_of(x)[1:], dtype=x.dtype)


def _stacked(array, like):
    """`array.stack()`, also for an empty array, for which TensorFlow needs the shape of the elements."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return array.stack()
    return tf.raw_ops.TensorListStack(input_handle=array.flow, element_shape=tf.shape(like), element_dtype=like.dtype)


def _where(real, new, old):
    if real is None:
        return new
    for _ in new.shape[1:]:
        real = ops.expand_dims(real, -1)
    return ops.where(real, new, old)


def _like(x, y):
    """`x` with the static shape of `y`, as TensorFlow's loops require shapes to stay the same."""
    if keras.backend.backend() == "tensorflow":
        x.set_shape(y.shape)
    return x
