"""Specification of an attention mask, materialised on demand."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size
from keras_attn.ops.boolean_mask import both, check_boolean
from keras_attn.typing import Tensor


@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """All restrictions of an attention call, combined only when a kernel needs a block of the mask.

    Query `t` may attend to key `s` if all of these that are given hold: `key_positions[s] <= query_positions[t]`
    (`causal`), `|query_positions[t] - key_positions[s]| < window` or `key_positions[s] < sink_tokens` (`window`),
    `query_mask[t]`, `key_mask[s]`, `query_segments[t] == key_segments[s]`, `explicit[t, s]`.

    Args:
        query_positions: Int32 `(B, T)` or `(1, T)`; needed by `causal` and `window`.
        key_positions: Int32 `(B, S)` or `(1, S)`; needed by `causal` and `window`.
        causal: Whether keys at later positions are hidden.
        window: Optional int; keys at this distance or further are hidden.
        sink_tokens: Number of first positions that no window hides.
        query_mask: Optional bool `(B, T)`, False at padding.
        key_mask: Optional bool `(B, S)`, False at padding.
        query_segments: Optional int32 `(B, T)`, the packed sequence that each query belongs to.
        key_segments: Optional int32 `(B, S)`, the same for the keys.
        explicit: Optional bool that broadcasts to `(B, N, T, S)`, rank 4.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import AttentionMask
    >>> positions = np.arange(3)[None]
    >>> spec = AttentionMask(query_positions=positions, key_positions=positions, causal=True)
    >>> np.asarray(spec.materialize())[0, 0].astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """

    query_positions: Tensor | None = None
    key_positions: Tensor | None = None
    causal: bool = False
    window: int | None = None
    sink_tokens: int = 0
    query_mask: Tensor | None = None
    key_mask: Tensor | None = None
    query_segments: Tensor | None = None
    key_segments: Tensor | None = None
    explicit: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("query_mask", "key_mask", "explicit"):
            check_boolean(name, getattr(self, name))

    def materialize(self) -> Tensor | None:
        """The whole mask, bool of rank 4 that broadcasts to `(B, N, T, S)`; None if nothing is restricted."""
        pairs = self.pairs
        return pairs if self.query_mask is None else both(pairs, _as_column(self.query_mask))

    def unmasked_queries(self) -> Tensor | None:
        """False at fully masked queries: bool that broadcasts to `(B, N, T, 1)`, or None if there are none.

        With a causal mask alone every query attends to itself, so nothing is computed.
        """
        return self._unmasked

    def extended(self, query_length: int, key_length: int, num_keys: int) -> AttentionMask:
        """The mask of inputs padded to `query_length` and `key_length`; keys from `num_keys` on are hidden."""
        fields = {name: _extended(getattr(self, name), query_length) for name in _OF_QUERIES}
        fields |= {name: _extended(getattr(self, name), key_length) for name in _OF_KEYS}
        real = ops.expand_dims(ops.less(ops.arange(key_length, dtype="int32"), num_keys), 0)
        fields["key_mask"] = both(fields["key_mask"], real)
        explicit = _padded(_padded(self.explicit, 2, query_length), 3, key_length)
        return dataclasses.replace(self, **fields, explicit=explicit)

    def block(
        self,
        queries: tuple[Tensor, int] | None,
        keys: tuple[Tensor, int] | None,
        rows: tuple[Tensor, int] | None = None,
        heads: tuple[Tensor, int] | None = None,
    ) -> AttentionMask:
        """The mask of a block of queries and keys.

        Args:
            queries, keys: `(start, length)`.
            rows, heads: Optional `(start, length)` of batch and query heads. Default to all of them.

        Returns:
            An `AttentionMask`.
        """
        fields = {}
        for names, where in ((_OF_QUERIES, queries), (_OF_KEYS, keys)):
            fields |= {name: block(getattr(self, name), rows, where) for name in names}
        return dataclasses.replace(self, **fields, explicit=block(self.explicit, rows, heads, queries, keys))

    # Cached, since both the kernel and its caller read it.
    @functools.cached_property
    def pairs(self) -> Tensor | None:
        """The mask without `query_mask`, often much smaller, for kernels that use `unmasked_queries` for the rest."""
        mask = self.explicit
        if self.causal or self.window is not None:
            queries, keys = _as_column(self.query_positions), _as_row(self.key_positions)
            if self.causal:
                mask = both(mask, ops.greater_equal(queries, keys))
            if self.window is not None:
                near = ops.less(ops.abs(ops.subtract(queries, keys)), self.window)
                if self.sink_tokens:
                    near = ops.logical_or(near, ops.less(keys, self.sink_tokens))
                mask = both(mask, near)
        if self.query_segments is not None:
            mask = both(mask, ops.equal(_as_column(self.query_segments), _as_row(self.key_segments)))
        if self.key_mask is not None:
            mask = both(mask, _as_row(self.key_mask))
        return mask

    @property
    def is_positional(self) -> bool:
        """Whether only positions restrict attention."""
        others = (self.query_mask, self.key_mask, self.query_segments, self.explicit)
        return all(x is None for x in others)

    @property
    def is_triangular(self) -> bool:
        """Whether query `t` is known to attend to exactly the first `t + 1` of as many keys as queries."""
        positions = self.query_positions
        is_known = isinstance(positions, np.ndarray) and positions is self.key_positions and self.is_positional
        known = is_known and np.array_equal(positions, np.arange(positions.shape[1])[None])
        return known and self.causal and self.window is None

    @property
    def _is_reflexive(self):
        """Whether every query that is not padding is known to attend to its own key (one sequence, one mask)."""
        return (
            self.explicit is None
            and self.query_positions is not None
            and self.query_positions is self.key_positions
            and self.query_segments is self.key_segments
            and (self.key_mask is None or self.key_mask is self.query_mask)
        )

    @functools.cached_property
    def _unmasked(self):
        if self._is_reflexive:
            return None if self.query_mask is None else _as_column(self.query_mask)
        entangled = self.explicit is not None or self.window is not None or self.query_segments is not None
        unmasked = None
        if entangled or (self.causal and self.key_mask is not None):
            unmasked = self._any_pair()
        elif self.key_mask is not None:
            unmasked = ops.any(_as_row(self.key_mask), axis=-1, keepdims=True)
        return unmasked if self.query_mask is None else both(unmasked, _as_column(self.query_mask))

    def _any_pair(self):
        """Whether each query has any key, by blocks of queries if all pairs would take too much memory."""
        queries, keys = (
            (self.query_positions, self.key_positions)
            if self.query_segments is None
            else (self.query_segments, self.key_segments)
        )
        # An explicit mask alone exists already.
        length, num_keys = (1, 1) if queries is None else (queries.shape[1], keys.shape[1])
        if None in (length, num_keys) or length * num_keys <= _MANY or "pairs" in vars(self):
            return ops.any(self.pairs, axis=-1, keepdims=True)
        size = max(1, _MANY // num_keys)
        blocks = [self.block((i, min(size, length - i)), None) for i in range(0, length, size)]
        return ops.concatenate([ops.any(part.pairs, axis=-1, keepdims=True) for part in blocks], axis=2)


def check_attention_mask(mask):
    """Raises a ValueError unless the `mask` of a kernel is an `AttentionMask` or None."""
    if mask is not None and not isinstance(mask, AttentionMask):
        raise ValueError(
            "`mask` must be an AttentionMask, with a boolean array as `explicit`; pass floats to add to the logits as "
            f"`bias=`. Received: {type(mask).__name__}"
        )


_MANY = 2**24
_OF_QUERIES = ("query_positions", "query_mask", "query_segments")
_OF_KEYS = ("key_positions", "key_mask", "key_segments")


def block(x, *parts):
    """A block of a tensor with axes that broadcast.

    Args:
        x: Tensor, or None, which is returned.
        *parts: `(start, length)` for each of the first axes, None for all of it. An axis of length one is kept.

    Returns:
        Tensor of the rank of `x`.
    """
    if x is None:
        return None
    index = []
    for axis, where in enumerate(parts):
        size = x.shape[axis]
        if where is None or size == 1:
            index.append(slice(None))
            continue
        start, length = where
        if size is None:
            size = axis_size(x, axis)
            length = ops.minimum(length, size)
            start = ops.minimum(start, size - length)
        index.append(slice(start, start + length))
    is_static = all(isinstance(i, int | None) for part in index for i in (part.start, part.stop))
    return (x if is_static else ops.convert_to_tensor(x))[tuple(index)]


def _extended(x, length):
    """`x` `(B, n)` with its last entry repeated up to `length`, unless it broadcasts; zeros if it is empty."""
    if x is None or _reaches(x.shape[1], length):
        return x
    entries = ops.minimum(ops.arange(length, dtype="int32"), ops.maximum(axis_size(x, 1) - 1, 0))
    return ops.take(_padded(x, 1, axis_size(x, 1) + 1), entries, axis=1)


def _padded(x, axis, length):
    """`x` with zeros up to `length`, unless it broadcasts along the axis."""
    if x is None or _reaches(x.shape[axis], length):
        return x
    return ops.pad(x, [(0, length - axis_size(x, axis) if i == axis else 0) for i in range(len(x.shape))])


def _reaches(size, length):
    """Whether an axis of `size` is known to broadcast to `length`, int or scalar tensor, or to be that long."""
    return size == 1 or (isinstance(length, int) and size == length)


# One axis at a time: indexing with several `None` becomes a Flex op in TFLite when shapes are dynamic.
def _as_column(x):
    return ops.expand_dims(ops.expand_dims(x, 1), -1)


def _as_row(x):
    return ops.expand_dims(ops.expand_dims(x, 1), 1)
