"""Who may attend to whom: one specification, materialised late."""

import dataclasses
import functools
from typing import Any

from keras import ops


@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """Every restriction on an attention, kept apart until a kernel asks for a block of the mask.

    Query `t` may attend to key `s` where all of these that are given hold: `key_positions[s] <= query_positions[t]`
    (`causal`), `|query_positions[t] - key_positions[s]| < window` or `key_positions[s] < sink_tokens` (`window`),
    `query_mask[t]`, `key_mask[s]`, `query_segments[t] == key_segments[s]`, `explicit[t, s]`.

    Args:
        query_positions: int32 `(B, T)` or `(1, T)`; needed by `causal` and `window`.
        key_positions: int32 `(B, S)` or `(1, S)`; needed by `causal` and `window`.
        causal: whether a key of a later position is hidden.
        window: optional int; keys this far away, or further, are hidden.
        sink_tokens: how many first positions no window hides.
        query_mask: optional bool `(B, T)`, False at padding.
        key_mask: optional bool `(B, S)`, False at padding.
        query_segments: optional int32 `(B, T)`: which of several packed sequences each query belongs to.
        key_segments: optional int32 `(B, S)`.
        explicit: optional bool that broadcasts to `(B, N, T, S)`, rank 4.

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

    query_positions: Any = None
    key_positions: Any = None
    causal: bool = False
    window: int | None = None
    sink_tokens: int = 0
    query_mask: Any = None
    key_mask: Any = None
    query_segments: Any = None
    key_segments: Any = None
    explicit: Any = None

    def materialize(self):
        """The whole mask, bool, rank 4, broadcasting to `(B, N, T, S)`; None where nothing is restricted."""
        pairs = self.pairs
        return pairs if self.query_mask is None else _both(pairs, _as_column(self.query_mask))

    def live_queries(self):
        """Which queries may attend to anything: bool `(B, N, T, 1)` with broadcast axes, None for all of them.

        A causal mask alone leaves every query itself, so nothing is computed for it.
        """
        return self._live

    # The kernel and its caller both ask; what the first answer cost is kept.
    @functools.cached_property
    def pairs(self):
        """The mask without `query_mask`, often much smaller: for kernels that zero what `live_queries` leaves out."""
        mask = self.explicit
        if self.causal or self.window is not None:
            queries, keys = _as_column(self.query_positions), _as_row(self.key_positions)
            if self.causal:
                mask = _both(mask, ops.greater_equal(queries, keys))
            if self.window is not None:
                near = ops.less(ops.abs(ops.subtract(queries, keys)), self.window)
                if self.sink_tokens:
                    near = ops.logical_or(near, ops.less(keys, self.sink_tokens))
                mask = _both(mask, near)
        if self.query_segments is not None:
            mask = _both(mask, ops.equal(_as_column(self.query_segments), _as_row(self.key_segments)))
        if self.key_mask is not None:
            mask = _both(mask, _as_row(self.key_mask))
        return mask

    @functools.cached_property
    def _live(self):
        entangled = self.explicit is not None or self.window is not None or self.query_segments is not None
        live = None
        if entangled or (self.causal and self.key_mask is not None):
            live = ops.any(self.pairs, axis=-1, keepdims=True)
        elif self.key_mask is not None:
            live = ops.any(_as_row(self.key_mask), axis=-1, keepdims=True)
        return live if self.query_mask is None else _both(live, _as_column(self.query_mask))


def _both(mask, other):
    return other if mask is None else ops.logical_and(mask, other)


# One axis at a time: indexing with several `None` becomes a Flex op in TFLite when shapes are dynamic.
def _as_column(x):
    return ops.expand_dims(ops.expand_dims(x, 1), -1)


def _as_row(x):
    return ops.expand_dims(ops.expand_dims(x, 1), 1)
