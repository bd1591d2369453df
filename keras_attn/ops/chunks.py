"""Sequences split into chunks, which are folded into the batch axis to keep ranks low."""

import dataclasses
import functools
from typing import Any

from keras import ops

from keras_attn.ops.arrays import ceil_div, reshape


@dataclasses.dataclass(frozen=True)
class Chunks:
    """`length` entries, int or scalar tensor, in one or more chunks of `size`; the last one is padded."""

    length: Any
    size: int

    @functools.cached_property
    def count(self):
        # Never zero, which is ambiguous in reshapes.
        count = ceil_div(self.length, self.size)
        return max(count, 1) if isinstance(count, int) else ops.maximum(count, 1)

    @functools.cached_property
    def padded(self):
        return self.count * self.size

    def own(self, x, fill=0):
        """The chunks of `(rows, length, width)`: `(rows * count, size, width)`."""
        return self.around(x, 0, 0, fill)

    def around(self, x, before, after, fill=0):
        """Each chunk with its neighbours: `(rows * count, (before + 1 + after) * size, width)`.

        Args:
            x: `(rows, length, width)`.
            before, after: Number of neighbours on each side.
            fill: Value beyond both ends of the sequence.
        """
        # Static padding widths, even if the length is unknown; the slices cut off what is too much.
        end = 0 if isinstance(self.length, int) and self.padded == self.length else self.size
        if before or after or end:
            x = ops.pad(x, ((0, 0), (before * self.size, after * self.size + end), (0, 0)), constant_values=fill)
        shape = (-1, self.size, x.shape[-1])
        starts = [i * self.size for i in range(before + 1 + after)]
        parts = [reshape(x[:, start : start + self.padded], shape) for start in starts]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)
