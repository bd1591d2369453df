"""The position of each cache slot, for caches whose slot numbers are not positions.

All rows write to the same consecutive slots, whatever their positions are: prompts of different lengths need no
separate writes, the beams of a search share a position, and a windowed layer reuses the slots outside of its window.
`slots` is a tuple of tensors:

* `slot_positions` int32 `(B, M)` or `(1, M)`: Position of the token in each slot; `FAR`, a later position than that of
  any query, in empty slots.
* `next_slot` int32 scalar: The next slot to write.
* `first` int32 scalar, only if slots are reused: The slot to continue at after the last one.
"""

from keras import ops

from keras_attn.ops.arrays import add, axis_size
from keras_attn.ops.boolean_mask import boolean

FAR = 2**30


def empty(length, num_sink_tokens=None):
    """`slots` of an empty cache, for rows that share their positions.

    Args:
        length: Number of slots `M`.
        num_sink_tokens: Number of first slots that are never reused; None if no slot is reused.
    """
    scalars = (0,) if num_sink_tokens is None else (0, num_sink_tokens)
    return ops.full((1, length), FAR, dtype="int32"), *_scalars(*scalars)


def of_prompt(mask, length):
    """`slots` of a prompt in the first slots, followed by `length` empty ones.

    Args:
        mask: Bool `(B, P)`, the tokens that may be attended to, at positions `0, 1, ...` per row.
        length: Number of further slots.
    """
    batch, size = axis_size(mask, 0), axis_size(mask, 1)
    positions = ops.where(boolean("mask", mask), ops.expand_dims(ops.arange(size, dtype="int32"), 0), FAR)
    free = ops.full((batch, length), FAR, dtype="int32")
    return ops.concatenate([positions, free], axis=1), ops.cast(size, "int32")


def of_window(mask, window, num_sink_tokens):
    """`slots` of the tokens of a prompt that a window keeps, and their columns in the prompt.

    Args:
        mask: Bool `(B, P)`, the real tokens of each row, at positions `0, 1, ...`.
        window: Number of last tokens to keep.
        num_sink_tokens: Number of first tokens to keep.

    Returns:
        `(slots, source)`: `2 * num_sink_tokens + window` slots, and the prompt column that fills each, int32. The
        slots of the prompt's sink tokens are followed by as many empty ones for the first new tokens, which become sink
        tokens in rows with a shorter prompt.
    """
    lengths = ops.sum(ops.cast(boolean("mask", mask), "int32"), axis=1, keepdims=True)
    tail = add(lengths - window, ops.expand_dims(ops.arange(window, dtype="int32"), 0))
    wanted, is_filled = tail, ops.greater_equal(tail, num_sink_tokens)
    # No concatenation of parts without columns: onnxruntime 1.24 computes wrong results for them.
    if num_sink_tokens:
        head = add(ops.zeros_like(lengths), ops.expand_dims(ops.arange(num_sink_tokens, dtype="int32"), 0))
        wanted = ops.concatenate([head, head, tail], axis=1)
        none = ops.zeros_like(head, dtype="bool")
        is_filled = ops.concatenate([ops.less(head, lengths), none, is_filled], axis=1)
    source = ops.clip(wanted, 0, axis_size(mask, 1) - 1)
    return (ops.where(is_filled, wanted, FAR), *_scalars(num_sink_tokens, 2 * num_sink_tokens)), source


def advance(slots, positions, mask=None):
    """`slots` after writing further tokens, and the slots to write them to.

    Args:
        slots: See above.
        positions: Int32 `(B, T)` or `(1, T)`.
        mask: Optional bool `(B, T)`; False hides a token from every query.

    Returns:
        `(slots, write_slots)`, `write_slots` int32 `(1, T)`.

    Raises:
        ValueError: If there are several tokens and slots are reused, since earlier queries would miss some tokens.
    """
    slot_positions, next_slot, *first = slots
    if first and positions.shape[1] != 1:
        raise ValueError(
            "`positions` must hold one token per call if windows bound the cache. "
            f"Received: shape {tuple(positions.shape)}"
        )
    count = positions.shape[1] or axis_size(positions, 1)
    write_slots = ops.expand_dims(add(ops.arange(count, dtype="int32"), next_slot), 0)
    positions = ops.cast(positions, "int32")
    if mask is not None:
        positions = ops.where(boolean("mask", mask), positions, FAR)
    every = ops.expand_dims(ops.arange(axis_size(slot_positions, 1), dtype="int32"), 0)
    if positions.shape[1] == 1:
        slot_positions = ops.where(ops.equal(every, write_slots), positions, slot_positions)
    else:
        offset = ops.subtract(every, next_slot)
        inside = ops.logical_and(ops.greater_equal(offset, 0), ops.less(offset, count))
        source = ops.clip(ops.squeeze(offset, 0), 0, count - 1)
        slot_positions = ops.where(inside, ops.take(positions, source, axis=1), slot_positions)
    next_slot = add(next_slot, count)
    if first:
        next_slot = ops.where(ops.less(next_slot, axis_size(slot_positions, 1)), next_slot, first[0])
    return (slot_positions, next_slot, *first), write_slots


def rewind(slots, count):
    """`slots` without the last `count` ones, an int32 scalar; they are overwritten next."""
    slot_positions, next_slot = slots
    next_slot = ops.subtract(next_slot, count)
    every = ops.expand_dims(ops.arange(axis_size(slot_positions, 1), dtype="int32"), 0)
    return ops.where(ops.less(every, next_slot), slot_positions, FAR), next_slot


def _scalars(*values):
    return tuple(ops.convert_to_tensor(value, dtype="int32") for value in values)
