"""Blocks of queries and keys, and the blocks that a mask leaves to compute."""

import dataclasses
from typing import Any

from keras import ops

from keras_attn.ops.arrays import axis_size, ceil_div, reshape
from keras_attn.ops.attention_mask import AttentionMask


@dataclasses.dataclass(frozen=True)
class Blocks:
    """`length` entries in `count` blocks of `size`; the last one may be padded."""

    length: Any
    size: Any
    count: Any

    @classmethod
    def of(cls, x, largest):
        """Blocks of at most `largest` entries along axis 2 of `x`, as even as possible to minimise padding."""
        length = axis_size(x, 2)
        # An empty sequence has one block of padding.
        largest_of = max if isinstance(length, int) else ops.maximum
        count = largest_of(ceil_div(length, largest), 1)
        return cls(length, largest_of(ceil_div(length, count), 1), count)

    @property
    def padded(self):
        return self.count * self.size

    @property
    def fit(self):
        """Whether there is known to be no padding."""
        return isinstance(self.length, int) and self.padded == self.length

    def pad(self, x, axis=2):
        """Pads `x` with zeros to the end of the last block; an axis of length one, which broadcasts, is kept."""
        if x is None or self.fit or x.shape[axis] == 1:
            return x
        widths = [(0, 0)] * len(x.shape)
        widths[axis] = (0, self.padded - self.length)
        return ops.pad(x, widths)


def blocked_mask(mask, queries, keys):
    """`(mask, ranges)` for padded inputs: `mask` extended to the padding, and the blocks of keys to compute.

    Args:
        mask: `AttentionMask` or None.
        queries, keys: `Blocks`.

    Returns:
        `(None, None)` if nothing is hidden. Else `ranges` is int32 `(B or 1, queries.count, 3)`: for each block of
        queries the first block of keys that any of them may attend to, the first one from there on that needs a mask,
        and the end; at least one block.
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
    """Two bool `(B or 1, queries.count, keys.count)`: whether any pair of a block is allowed, and whether all are.

    Computed from the smallest and largest position of each block instead of all pairs. This is conservative: some
    blocks that are not needed count as needed, and some free ones as not free.
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
    x = reshape(x, (-1, blocks.count, blocks.size))
    if ops.dtype(x) == "bool":
        return ops.expand_dims(ops.all(x, axis=-1), axis), ops.expand_dims(ops.any(x, axis=-1), axis)
    return ops.expand_dims(ops.min(x, axis=-1), axis), ops.expand_dims(ops.max(x, axis=-1), axis)
