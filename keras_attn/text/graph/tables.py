"""Lookup tables in a graph, with pairs of integers or code points as keys."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import rows

MISSING = -1
PAGE = 256


class PairTable:
    """A hash table from pairs of non-negative integers to non-negative integers; `MISSING` for other pairs.

    Args:
        pairs: Dict from `(first, second)` to a value.
    """

    def __init__(self, pairs):
        keys = np.array(list(pairs) or [(0, 0)], np.int64)
        values = np.array(list(pairs.values()) or [MISSING], np.int64)
        self.size = 1 << max(4, int(np.ceil(np.log2(2 * len(keys)))))
        # Products of keys and multipliers must stay within int32.
        limit = min(2**15, 2**30 // (1 + keys.max()))
        rng = np.random.default_rng(0)
        layouts = [self._layout(keys, *(int(m) for m in rng.integers(limit // 2, limit, 2) | 1)) for _ in range(24)]
        self.probes, self.multipliers, order, slots = min(layouts, key=lambda layout: layout[0])
        self.table = np.full((self.size + self.probes, 3), MISSING, np.int32)
        self.table[slots] = np.column_stack([keys, values])[order]
        self.largest = int(keys.max())

    def __call__(self, first, second):
        """Looks up pairs of integers of one shape; int32. Negative integers are in no pair."""
        a, b = (ops.minimum(ops.maximum(key, 0), self.largest) for key in (first, second))
        slot = ops.mod(a * self.multipliers[0] + b * self.multipliers[1], self.size)
        slots = ops.expand_dims(slot, -1) + np.arange(self.probes, dtype=np.int32)
        found = rows(self.table, slots)
        same = (found[..., 0] == ops.expand_dims(first, -1)) & (found[..., 1] == ops.expand_dims(second, -1))
        return ops.max(ops.where(same, found[..., 2], MISSING), axis=-1)

    def _layout(self, keys, *multipliers):
        """Slots by linear probing: each key takes the first free slot from its hash on."""
        hashes = (keys @ np.array(multipliers)) % self.size
        order = np.argsort(hashes, kind="stable")
        places = np.arange(len(keys))
        slots = np.maximum.accumulate(hashes[order] - places) + places
        return int(np.max(slots - hashes[order])) + 1, multipliers, order, slots


class CodePointTable:
    """A table of rows of integers, indexed by code point. Equal pages of 256 rows are stored once.

    Args:
        rows: Integer array `(0x110000, E)`.
    """

    def __init__(self, rows):
        pages = np.ascontiguousarray(rows.reshape(-1, PAGE, rows.shape[1]), np.int32)
        numbers, kept = {}, []
        index = np.zeros(len(pages), np.int32)
        for i, page in enumerate(pages):
            index[i] = numbers.setdefault(page.tobytes(), len(numbers))
            if index[i] == len(kept):
                kept.append(page)
        self.pages, self.index = np.concatenate(kept), index

    def __call__(self, code_points):
        """Looks up code points; int32 `(..., E)`. The result for negative ones is arbitrary."""
        points = ops.maximum(code_points, 0)
        page = rows(self.index, ops.floor_divide(points, PAGE))
        return rows(self.pages, page * PAGE + ops.mod(points, PAGE))
