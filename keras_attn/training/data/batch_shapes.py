"""Chooses a few batch shapes for rows of many widths."""

from typing import NamedTuple

import numpy as np


class BatchShape(NamedTuple):
    """A batch shape, and the examples in its batches.

    Attributes:
        widths: Number of columns of each side.
        rows: Number of rows per batch.
        batches: Number of batches per epoch.
        members: Int32, the indices of the examples. Fewer than `rows * batches` if the last rows are padding.
    """

    widths: tuple
    rows: int
    batches: int
    members: np.ndarray


class BatchSizes(NamedTuple):
    """The number of rows per batch: `batch_size`, or a multiple of `row_multiple` that fits in `tokens_per_batch`."""

    batch_size: int | None = None
    tokens_per_batch: int | None = None
    row_multiple: int = 8

    def most(self, width):
        """The maximum number of rows per batch. `width` is an integer array, the width of the wider side."""
        if self.batch_size is not None:
            return np.full_like(width, self.batch_size)
        return self.tokens_per_batch // width // self.row_multiple * self.row_multiple

    def layout(self, count, width):
        """`(batches, rows)` for `count` examples, integer arrays: as few batches, and then rows, as possible."""
        batches = -(-count // self.most(width))
        if self.batch_size is not None:
            return batches, np.full_like(count, self.batch_size)
        return batches, -(-count // (batches * self.row_multiple)) * self.row_multiple


def batch_shapes(widths, sizes, num_shapes):
    """Groups examples by width such that batches contain little padding.

    Starts with a single group, and repeatedly makes the split of a group along one side that saves the most padding.
    The shapes depend only on the widths. No split leaves less than half a batch.

    Args:
        widths: Integer `(examples, sides)`.
        sizes: The `BatchSizes`.
        num_shapes: Maximum number of groups.

    Returns:
        A list of `BatchShape`, sorted by width.
    """
    # Examples of the same widths stay together, so work on the distinct widths.
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
    """Points that share a shape, and their best split."""

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
        """The number of tokens in the batches, padding included."""
        batches, rows = self._sizes.layout(count, widths.max(axis=-1))
        return batches * rows * widths.sum(axis=-1)
