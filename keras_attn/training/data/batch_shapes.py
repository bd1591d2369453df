"""Few shapes of batches for rows of many widths."""

from typing import NamedTuple

import numpy as np


class BatchShape(NamedTuple):
    """Batches of one shape, and the examples in them.

    Attributes:
        widths: columns of each side.
        rows: rows of a batch.
        batches: how many batches an epoch has.
        members: int32, the examples; fewer than `rows * batches` where the last rows are padding.
    """

    widths: tuple
    rows: int
    batches: int
    members: np.ndarray


class BatchSizes(NamedTuple):
    """How many rows a batch has: `batch_size`, or as many as fill `tokens_per_batch`, a multiple of `row_multiple`."""

    batch_size: int | None = None
    tokens_per_batch: int | None = None
    row_multiple: int = 8

    def most(self, width):
        """The most rows of a batch; int array `width` is that of the wider side."""
        if self.batch_size is not None:
            return np.full_like(width, self.batch_size)
        return self.tokens_per_batch // width // self.row_multiple * self.row_multiple

    def layout(self, count, width):
        """`(batches, rows)` for `count` examples, int arrays: as few batches as can be, of no more rows than needed."""
        batches = -(-count // self.most(width))
        if self.batch_size is not None:
            return batches, np.full_like(count, self.batch_size)
        return batches, -(-count // (batches * self.row_multiple)) * self.row_multiple


def batch_shapes(widths, sizes, num_shapes):
    """Divides examples by width such that batches hold little padding.

    One group holds all examples at first. The cut of a group along one side that saves the most padding is made, again
    and again, so that the shapes depend on the widths alone. No cut leaves less than half of a batch.

    Args:
        widths: int `(examples, sides)`.
        sizes: `BatchSizes`.
        num_shapes: how many groups to make at most.

    Returns:
        A list of `BatchShape`, the narrowest first.
    """
    # Examples of the same widths stay together: few points stand for many examples.
    bounds = widths.max(axis=0) + 1
    keys, inverse, counts = np.unique(np.ravel_multi_index(widths.T, bounds), return_inverse=True, return_counts=True)
    points = np.stack(np.unravel_index(keys, bounds), axis=1)
    groups = [_Group(points, counts, np.arange(len(keys)), sizes)]
    while len(groups) < num_shapes:
        widest = max(groups, key=lambda group: group.gain)
        if widest.gain <= 0:
            break
        groups.remove(widest)
        groups.extend(_Group(points, counts, part, sizes) for part in widest.parts)
    groups.sort(key=lambda group: (group.widths.sum(), tuple(group.widths)))
    group_of_point = np.empty(len(keys), np.int32)
    for number, group in enumerate(groups):
        group_of_point[group.chosen] = number
    order = np.argsort(group_of_point[inverse], kind="stable").astype(np.int32)
    members = np.split(order, np.cumsum([group.count for group in groups])[:-1])
    return [
        BatchShape(tuple(group.widths.tolist()), int(group.rows), int(group.batches), part)
        for group, part in zip(groups, members, strict=True)
    ]


class _Group:
    """Points that share a shape, and the best cut of them."""

    def __init__(self, points, counts, chosen, sizes):
        self.chosen, self._sizes = chosen, sizes
        points, counts = points[chosen], counts[chosen]
        self.count, self.widths = counts.sum(), points.max(axis=0)
        self.batches, self.rows = sizes.layout(self.count, self.widths.max())
        self.gain, self.parts = 0, ()
        for axis in range(points.shape[1]):
            self._cut(points, counts, axis)

    def _cut(self, points, counts, axis):
        order = np.argsort(points[:, axis], kind="stable")
        points, counts = points[order], counts[order]
        here = np.flatnonzero(np.diff(points[:, axis]))
        if not len(here):
            return
        below = np.cumsum(counts)[here]
        cells = 0
        for count, widths in (
            (below, np.maximum.accumulate(points)[here]),
            (self.count - below, np.maximum.accumulate(points[::-1])[::-1][here + 1]),
        ):
            too_few = 2 * count < self._sizes.most(widths.max(axis=1))
            cells = cells + np.where(too_few, np.inf, self._cells(count, widths))
        best = np.argmin(cells)
        gain = self._cells(self.count, self.widths) - cells[best]
        if gain > self.gain:
            self.gain, self.parts = gain, (self.chosen[order[: here[best] + 1]], self.chosen[order[here[best] + 1 :]])

    def _cells(self, count, widths):
        """What the batches hold, padding included."""
        batches, rows = self._sizes.layout(count, widths.max(axis=-1))
        return batches * rows * widths.sum(axis=-1)
