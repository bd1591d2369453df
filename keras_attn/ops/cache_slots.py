"""Which position each slot of a cache holds, where that is not the slot's own number.

All rows write to the same slots, one behind another, whatever their positions are: prompts of different lengths need no
write of their own, the beams of a search stand side by side at one position, and a windowed layer starts over in the
slots that its window has left. `slots` is a tuple of tensors:

* `positions` int32 `(B, M)` or `(1, M)`: of the token in each slot; `FAR`, which causality hides from every query,
  where there is none.
* `following` int32 scalar: the slot that is written next.
* `first` int32 scalar, only with slots that are written again: where that starts over once the last one is full.
"""

from keras import ops

from keras_attn.ops.arrays import add
from keras_attn.ops.boolean_mask import boolean

FAR = 2**30


def empty(length, sinks=None):
    """`slots` of a cache in which nothing stands, of rows that are all at the same positions.

    Args:
        length: number of slots `M`.
        sinks: how many first slots are never written again; None where no slot is.
    """
    return ops.full((1, length), FAR, dtype="int32"), *_scalars(0, *([] if sinks is None else [sinks]))


def of_prompt(mask, length):
    """`slots` of a prompt in the first slots, and `length` free ones behind.

    Args:
        mask: bool `(B, P)`, which tokens may be attended to. Those of a row stand at `0, 1, ...`.
        length: number of further slots.
    """
    batch, size = ops.shape(mask)[0], ops.shape(mask)[1]
    positions = ops.where(boolean("mask", mask), ops.expand_dims(ops.arange(size, dtype="int32"), 0), FAR)
    free = ops.full((batch, length), FAR, dtype="int32")
    return ops.concatenate([positions, free], axis=1), ops.cast(size, "int32")


def of_window(mask, window, sinks):
    """`slots` of what a window has left of a prompt, and from where it comes.

    Args:
        mask: bool `(B, P)`, real tokens of each row, which stand at `0, 1, ...`.
        window: how many last tokens are kept.
        sinks: how many first tokens are kept.

    Returns:
        `(slots, source)`: with `2 * sinks + window` slots, and int32 of that width, the column of the prompt that each
        slot is filled from. Behind the sinks of the prompt as many slots wait for the first tokens to come, which are
        the sinks of a row whose prompt is shorter.
    """
    lengths = ops.sum(ops.cast(boolean("mask", mask), "int32"), axis=1, keepdims=True)
    tail = add(lengths - window, ops.expand_dims(ops.arange(window, dtype="int32"), 0))
    wanted, held = tail, ops.greater_equal(tail, sinks)
    # Not as parts without columns, which are sums that onnxruntime 1.24 takes for columns.
    if sinks:
        head = add(ops.zeros_like(lengths), ops.expand_dims(ops.arange(sinks, dtype="int32"), 0))
        wanted = ops.concatenate([head, head, tail], axis=1)
        none = ops.zeros_like(head, dtype="bool")
        held = ops.concatenate([ops.less(head, lengths), none, held], axis=1)
    source = ops.clip(wanted, 0, ops.shape(mask)[1] - 1)
    return (ops.where(held, wanted, FAR), *_scalars(sinks, 2 * sinks)), source


def advance(slots, positions, mask=None):
    """`slots` with further tokens in them, and where these go.

    Args:
        slots: see above.
        positions: int32 `(B, T)` or `(1, T)`.
        mask: optional bool `(B, T)`; no query will see a token that is False.

    Returns:
        `(slots, written)`, `written` int32 `(1, T)`.

    Raises:
        ValueError: there are several tokens, and slots that are written again: an earlier query would miss some.
    """
    held, following, *first = slots
    if first and positions.shape[1] != 1:
        raise ValueError(
            "`positions` must be of one token a call where windows bound the cache. "
            f"Received: shape {tuple(positions.shape)}"
        )
    count = positions.shape[1] or ops.shape(positions)[1]
    written = ops.expand_dims(add(ops.arange(count, dtype="int32"), following), 0)
    positions = ops.cast(positions, "int32")
    if mask is not None:
        positions = ops.where(boolean("mask", mask), positions, FAR)
    every = ops.expand_dims(ops.arange(ops.shape(held)[1], dtype="int32"), 0)
    if positions.shape[1] == 1:
        held = ops.where(ops.equal(every, written), positions, held)
    else:
        offset = ops.subtract(every, following)
        inside = ops.logical_and(ops.greater_equal(offset, 0), ops.less(offset, count))
        held = ops.where(inside, ops.take(positions, ops.clip(ops.squeeze(offset, 0), 0, count - 1), axis=1), held)
    following = add(following, count)
    if first:
        following = ops.where(ops.less(following, ops.shape(held)[1]), following, first[0])
    return (held, following, *first), written


def rewind(slots, count):
    """`slots` without the last `count`, an int32 scalar, which are written again."""
    held, following = slots
    following = ops.subtract(following, count)
    every = ops.expand_dims(ops.arange(ops.shape(held)[1], dtype="int32"), 0)
    return ops.where(ops.less(every, following), held, FAR), following


def _scalars(*values):
    return tuple(ops.convert_to_tensor(value, dtype="int32") for value in values)
