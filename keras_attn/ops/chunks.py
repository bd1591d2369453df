"""Sequences cut into chunks that fold into the batch axis, so that ranks stay low."""

import dataclasses
import functools
from typing import Any

from keras import ops


@dataclasses.dataclass(frozen=True)
class Chunks:
    """`length` entries, int or scalar tensor, in `count` chunks of `size`, one at least; the last one is padded."""

    length: Any
    size: int

    @functools.cached_property
    def count(self):
        # Not `-(-length // size)`: ONNX divides integers towards zero. And never zero, which reshapes could not tell.
        count = (self.length + self.size - 1) // self.size
        return max(count, 1) if isinstance(count, int) else ops.maximum(count, 1)

    @functools.cached_property
    def padded(self):
        return self.count * self.size

    def own(self, x, fill=0):
        """The chunks of `(rows, length, width)`: `(rows * count, size, width)`."""
        return self.around(x, 0, 0, fill)

    def around(self, x, behind, ahead, fill=0):
        """Each chunk between its neighbours: `(rows * count, (behind + 1 + ahead) * size, width)`.

        Args:
            x: `(rows, length, width)`.
            behind, ahead: number of neighbours on each side.
            fill: what stands beyond either end of the sequence.
        """
        # The widths are known even where the length is not; what is too much at the end is cut off with the slices.
        end = 0 if isinstance(self.length, int) and self.padded == self.length else self.size
        if behind or ahead or end:
            x = ops.pad(x, ((0, 0), (behind * self.size, ahead * self.size + end), (0, 0)), constant_values=fill)
        shape = (-1, self.size, x.shape[-1])
        starts = [i * self.size for i in range(behind + 1 + ahead)]
        parts = [ops.reshape(x[:, start : start + self.padded], shape) for start in starts]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)
