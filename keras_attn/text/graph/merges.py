"""Byte-pair merging as graph operations."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, rows
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.tables import PairTable

FAR = 2**30


class Merges:
    """Merges pairs of ids by rank.

    Args:
        merges: List of `(left id, right id, merged id)`, by decreasing priority.
    """

    def __init__(self, merges):
        self.ranks = PairTable({tuple(merge[:2]): rank for rank, merge in enumerate(merges)})
        self.joined = np.array([merge[2] for merge in merges] or [0], np.int32)

    def __call__(self, ids):
        """Merges the pieces of each row, the pair of the lowest rank first, and the leftmost of equal ranks."""
        columns = ops.expand_dims(ops.arange(axis_size(ids, 1), dtype="int32"), 0)

        def unfinished(ids, ranks):
            return ops.any(ranks < FAR)

        def merge(ids, ranks):
            best = ops.min(ranks, axis=1, keepdims=True)
            place = ops.expand_dims(ops.cast(ops.argmin(ranks, axis=1), "int32"), 1)
            place = ops.where(best < FAR, place, FAR)
            both = rows(self.joined, ops.minimum(best, len(self.joined) - 1))
            here, before = columns == place, columns == place - 1
            ids = ops.where(here, both, ops.where(columns > place, shifted(ids, -1), ids))
            left, right = (_chosen(ids, columns == place + by) for by in (-1, 1))
            new = self._rank(ops.concatenate([left, both], axis=1), ops.concatenate([both, right], axis=1))
            ranks = ops.where(columns > place, shifted(ranks, -1, FAR), ranks)
            return ids, ops.where(before, new[:, :1], ops.where(here, new[:, 1:], ranks))

        ranks = self._rank(ids, shifted(ids, -1))
        return ops.while_loop(unfinished, merge, (ids, ranks))[0]

    def _rank(self, left, right):
        ranks = self.ranks(left, right)
        return ops.where(ranks < 0, FAR, ranks)


def _chosen(values, here):
    """The value of each row at the position that is `here`, -1 if there is none; `(B, 1)`."""
    return ops.sum(ops.where(here, values + 1, 0), axis=1, keepdims=True) - 1
