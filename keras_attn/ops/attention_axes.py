"""Attention over any axes of a tensor of any rank, folded to attention over one axis."""

import math

from keras import ops

from keras_attn.ops.arrays import reshape, reshape_rows, shape_of


class AttentionAxes:
    """Folds `(B, ..., D)` to `(B', T, D)`, with all attention axes in `T`, and back.

    Args:
        rank: Rank of the inputs, including channels.
        axes: The axes attended over, without batch and channels. Defaults to all of them.

    Raises:
        ValueError: If an axis is not between batch and channels.
    """

    def __init__(self, rank, axes=None):
        self.rank = rank
        self.axes = tuple(range(1, rank - 1)) if axes is None else tuple(a if a >= 0 else rank + a for a in axes)
        if not self.axes or any(not 0 < axis < rank - 1 for axis in self.axes):
            raise ValueError(
                f"`attention_axes` must lie between the batch and the channels of an input of rank {rank}. "
                f"Received: attention_axes={axes}"
            )
        self.batch_axes = tuple(axis for axis in range(rank - 1) if axis not in self.axes)
        self._order = self.batch_axes + self.axes

    @property
    def plain(self):
        """Whether the inputs have shape `(B, T, D)` already."""
        return self.rank == 3

    def fold(self, x):
        """`(B, ..., D)` to `(B', T, D)`."""
        if self.plain:
            return x
        length = math.prod(self._dims(x, self.axes))
        return reshape_rows(ops.transpose(x, (*self._order, self.rank - 1)), self._batch(x), length, x.shape[-1])

    def unfold(self, y, like):
        """`(B', T, ...)` back to the leading axes of the unfolded `like`."""
        if self.plain:
            return y
        tail = tuple(y.shape)[2:]
        y = reshape(y, (*self._dims(like, self._order), *tail))
        inverse = [self._order.index(axis) for axis in range(self.rank - 1)]
        return ops.transpose(y, (*inverse, *range(self.rank - 1, self.rank - 1 + len(tail))))

    def fold_padding(self, mask):
        """Folds a padding mask, the shape of the inputs without channels, to `(B', T)`."""
        return mask if mask is None or self.plain else ops.squeeze(self.fold(ops.expand_dims(mask, -1)), -1)

    def fold_mask(self, mask, query, key):
        """A mask or bias that broadcasts to `(B, ..., [N], query axes, key axes)`, to rank 4 `(B', N, T, S)`.

        Missing axes are those of the heads and of the batch, as in `keras.layers.MultiHeadAttention`.
        """
        if mask is None:
            return None
        num_axes = len(self.axes)
        rank = len(self.batch_axes) + 1 + 2 * num_axes
        for _ in range(rank - len(mask.shape)):
            mask = ops.expand_dims(mask, -2 * num_axes - 1)
        if self.plain:
            return mask
        heads = mask.shape[len(self.batch_axes)]
        queries, keys = self._dims(query, self.axes), self._dims(key, self.axes)
        mask = ops.broadcast_to(mask, (*self._dims(query, self.batch_axes), heads, *queries, *keys))
        return reshape_rows(mask, self._batch(query), heads, math.prod(queries), math.prod(keys))

    def unfold_scores(self, scores, query, key):
        """`(B', N, T, S)` to `(B, ..., N, query axes, key axes)`."""
        if self.plain:
            return scores
        batch = self._dims(query, self.batch_axes)
        return reshape(scores, (*batch, scores.shape[1], *self._dims(query, self.axes), *self._dims(key, self.axes)))

    def _batch(self, x):
        return math.prod(self._dims(x, self.batch_axes))

    def _dims(self, x, axes):
        shape = shape_of(x)
        return tuple(shape[axis] for axis in axes)
