"""How the queries and keys of an attention fall into blocks, and which blocks a mask leaves anything to do."""

import dataclasses
from typing import Any

from keras import ops

from keras_attn.ops.attention_mask import AttentionMask


@dataclasses.dataclass(frozen=True)
class Blocks:
    """`length` entries in `count` blocks of `size`, the last of which may be padded."""

    length: Any
    size: Any
    count: Any

    @classmethod
    def of(cls, x, largest):
        """The blocks along axis 2 of `x`, as even as they can be: hardly anything is padded."""
        length = ops.shape(x)[2]
        # Of an empty sequence there is one block, all padding.
        largest_of = max if isinstance(length, int) else ops.maximum
        count = largest_of(-(-length // largest), 1)
        return cls(length, largest_of(-(-length // count), 1), count)

    @property
    def padded(self):
        return self.count * self.size

    @property
    def fit(self):
        """Whether it is known that there is no padding."""
        return isinstance(self.length, int) and self.padded == self.length

    def pad(self, x, axis=2):
        """`x` with zeros up to the end of the last block; an axis of length one, along which it broadcasts, stays."""
        if x is None or self.fit or x.shape[axis] == 1:
            return x
        widths = [(0, 0)] * len(x.shape)
        widths[axis] = (0, self.padded - self.length)
        return ops.pad(x, widths)


def blocked_mask(mask, queries, keys):
    """`(mask, ranges)` for padded inputs: `mask` extended over the padding, and what of it each block needs.

    Args:
        mask: `AttentionMask` or None.
        queries, keys: `Blocks`.

    Returns:
        `(None, None)` where nothing is hidden. Else `ranges` is int32 `(B or 1, queries.count, 3)`: for each block of
        queries the first block of keys that one of them may attend to, the first from there on that takes a mask, and
        the end; at least one block.
    """
    if mask is None:
        if keys.fit:
            return None, None
        mask = AttentionMask()
    mask = mask.extended(queries.padded, keys.padded, keys.length)
    needed, free = _needed_and_free(mask, queries, keys)
    index = ops.arange(keys.count, dtype="int32")
    end = ops.maximum(ops.max(ops.where(needed, index + 1, 0), axis=-1), 1)
    start = ops.minimum(ops.min(ops.where(needed, index, keys.count), axis=-1), end - 1)
    takes_mask = ops.logical_and(ops.logical_not(free), index >= ops.expand_dims(start, -1))
    middle = ops.minimum(ops.min(ops.where(takes_mask, index, keys.count), axis=-1), end)
    return mask, ops.stack([start, middle, end], axis=-1)


def _needed_and_free(mask, queries, keys):
    """Bool `(B or 1, queries.count, keys.count)` each: whether any pair of a block is allowed, whether all are.

    Judged by the smallest and largest position of each block, so that no pair is looked at: a block may be needed that
    is not, and none that is free takes a mask.
    """
    needed = ops.ones((1, queries.count, keys.count), dtype="bool")
    free = needed if mask.explicit is None else ops.zeros_like(needed)
    if mask.causal or mask.window is not None:
        first, last = _extremes(mask.query_positions, queries, -1)
        first_key, last_key = _extremes(mask.key_positions, keys, 1)
        if mask.causal:
            needed, free = needed & (first_key <= last), free & (last_key <= first)
        if mask.window is not None:
            near = (first - last_key < mask.window) & (first_key - last < mask.window)
            needed = needed & (near | (first_key < mask.sink_tokens))
            free = free & (last - first_key < mask.window) & (last_key - first < mask.window)
    if mask.query_segments is not None:
        first, last = _extremes(mask.query_segments, queries, -1)
        first_key, last_key = _extremes(mask.key_segments, keys, 1)
        needed = needed & (first <= last_key) & (first_key <= last)
        free = free & (first == last_key) & (first_key == last)
    if mask.key_mask is not None:
        none, all_ = _extremes(mask.key_mask, keys, 1)
        needed, free = needed & all_, free & none
    return needed, free


def _extremes(x, blocks, axis):
    """Smallest and largest entry of each block, `(B or 1, count)` with a further axis at `axis`."""
    x = ops.reshape(x, (-1, blocks.count, blocks.size))
    if ops.dtype(x) == "bool":
        return ops.expand_dims(ops.all(x, axis=-1), axis), ops.expand_dims(ops.any(x, axis=-1), axis)
    return ops.expand_dims(ops.min(x, axis=-1), axis), ops.expand_dims(ops.max(x, axis=-1), axis)
