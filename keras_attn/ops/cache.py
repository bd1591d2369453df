"""Key/value caches: plain tensors `(B, K, M, H)`; the slot of a token is its position by default.

The `Target` of the graph (`ops/target.py`) chooses how new keys are written and how the cache is stored.

A loop over one sequence uses `packed` caches, `(K, M, H)`: XLA writes to these in place and copies others.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.ops.arrays import axis_size
from keras_attn.ops.target import current
from keras_attn.typing import Nest, Tensor


def empty(batch: Tensor, length: int, heads: int, dim: int | tuple[int, int], dtype: str) -> tuple[Nest, Nest]:
    """A `(key, value)` pair of zeros, each `(batch, heads, length, dim)`.

    Args:
        batch: Int or scalar tensor.
        length: Number of slots `M`.
        heads: Number of key/value heads `K`.
        dim: Head width `H`, or a pair if keys and values differ.
        dtype: Dtype of both.

    Example:

    >>> from keras_attn.ops import cache
    >>> key, value = cache.empty(2, 16, 4, 8, "float32")
    >>> tuple(key.shape)
    (2, 4, 16, 8)
    """
    key_dim, value_dim = dim if isinstance(dim, tuple) else (dim, dim)
    return tuple(store(ops.zeros((batch, heads, length, width), dtype=dtype)) for width in (key_dim, value_dim))


def store(x: Tensor) -> Nest:
    """Keys or values `(B, K, T, H)` in the cache's storage format: a tensor, or `(int8, scale)`."""
    return _quantized(x) if current().cache_storage == "int8" else x


def load(stored: Nest, dtype: str) -> Tensor:
    """Reads a stored tensor back as `(B, K, M, H)` of `dtype` (lossy for int8)."""
    if isinstance(stored, (tuple, list)):
        values, scale = stored
        stored = ops.multiply(ops.cast(values, dtype), ops.cast(scale, dtype))
    return stored if len(stored.shape) == 4 else ops.expand_dims(stored, 0)


def packed(cache: Nest) -> Nest:
    """A nest of caches and slots with each `(1, K, M, H)` as `(K, M, H)`; caches of several rows are unchanged."""
    return keras.tree.map_structure(lambda x: ops.squeeze(x, 0) if len(x.shape) == 4 and x.shape[0] == 1 else x, cache)


def write(buffer: Nest, update: Tensor, slots: Tensor) -> Nest:
    """Returns `buffer` with `update` written to `slots`, as the current `Target` does it.

    Args:
        buffer: Result of `store` or `packed`, `(B, K, M, H)` or `(K, M, H)`.
        update: `(B, K, T, H)`.
        slots: Int32 `(B, T)` or `(1, T)`. A slot of `M` or more is not written.

    Returns:
        As `buffer`; with `"concat"`, `M + T` slots.
    """
    if isinstance(buffer, (tuple, list)):
        return tuple(_write(*pair, slots) for pair in zip(buffer, _quantized(update), strict=True))
    return _write(buffer, update, slots)


def length(pair: Nest) -> int | None:
    """The static number of slots of a `(key, value)` pair, None if unknown."""
    key = pair[0]
    return (key[0] if isinstance(key, (tuple, list)) else key).shape[-2]


def extended(stored: Nest, length: int) -> Nest:
    """`stored` followed by `length` slots of zeros."""
    if isinstance(stored, (tuple, list)):
        return tuple(extended(part, length) for part in stored)
    batch, heads, _, width = stored.shape
    batch = axis_size(stored, 0) if batch is None else batch
    return ops.concatenate([stored, ops.zeros((batch, heads, length, width), dtype=stored.dtype)], axis=2)


def gathered(stored: Nest, source: Tensor) -> Nest:
    """The slots `source`, int32 `(B, M)`, of `stored`."""
    if isinstance(stored, (tuple, list)):
        return tuple(gathered(part, source) for part in stored)
    return ops.take_along_axis(stored, ops.expand_dims(ops.expand_dims(source, 1), -1), axis=2)


def _quantized(x):
    """`(int8, scale)` with one scale per slot and head."""
    x = ops.cast(x, "float32")
    scale = ops.divide(ops.maximum(ops.max(ops.abs(x), axis=-1, keepdims=True), 1e-20), 127.0)
    return ops.cast(ops.round(ops.divide(x, scale)), "int8"), scale


def _write(buffer, update, slots):
    way, update, is_packed = current().cache_writes, ops.cast(update, buffer.dtype), len(buffer.shape) == 3
    if way in _SLICE_WRITERS and slots.shape[0] == 1:
        update = ops.squeeze(update, 0) if is_packed else update
        return _SLICE_WRITERS[way](buffer, update, ops.cast(slots[0, 0], "int32"))
    write_slots = _SLOT_WRITERS.get(way, _write_by_select)
    if is_packed:
        return ops.squeeze(write_slots(ops.expand_dims(buffer, 0), update, slots), 0)
    return write_slots(buffer, update, slots)


def _write_by_slice(buffer, update, start):
    return ops.slice_update(buffer, (*[0] * (len(buffer.shape) - 2), start, 0), update)


def _write_in_place(buffer, update, start):
    if keras.backend.backend() != "tensorflow":
        return _write_by_slice(buffer, update, start)
    import tensorflow as tf

    # As `buffer[..., start : start + T, :] = update`.
    begin, end = [0, start, 0], [0, start + tf.shape(update)[-2], 0]
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=buffer,
        begin=begin,
        end=end,
        strides=[1, 1, 1],
        value=update,
        ellipsis_mask=0b001,
        begin_mask=0b100,
        end_mask=0b100,
    )


def _write_by_select(buffer, update, slots):
    all_slots = ops.arange(buffer.shape[2] or axis_size(buffer, 2), dtype="int32")
    if update.shape[2] == 0:
        return buffer
    if update.shape[2] == 1:
        hit = ops.equal(slots, all_slots)
    else:
        if update.shape[2] is None:
            # Adds an update for no slot, in case there are none.
            update = ops.pad(update, ((0, 0), (0, 0), (0, 1), (0, 0)))
            slots = ops.pad(ops.cast(slots, "int32"), ((0, 0), (0, 1)), constant_values=-1)
        # (B, T, M): the update, if any, of each slot.
        match = ops.equal(ops.expand_dims(slots, -1), all_slots)
        hit = ops.any(match, axis=1)
        source = ops.argmax(ops.cast(match, "int32"), axis=1)
        if slots.shape[0] == 1:
            update = ops.take(update, ops.squeeze(source, 0), axis=2)
        else:
            update = ops.take_along_axis(update, ops.expand_dims(ops.expand_dims(source, 1), -1), axis=2)
    return ops.where(ops.expand_dims(ops.expand_dims(hit, 1), -1), update, buffer)


def _write_by_concat(buffer, update, slots):
    return ops.concatenate([buffer, update], axis=2)


# Writers by first slot, for rows with the same slots; and by slots that may differ per row.
_SLICE_WRITERS = {"slice": _write_by_slice, "in_place": _write_in_place}
_SLOT_WRITERS = {"select": _write_by_select, "concat": _write_by_concat}
