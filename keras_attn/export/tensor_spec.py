"""Specs of artefact inputs: shapes with named dynamic axes."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of an input.

    Args:
        axes: Tuple with an integer per fixed axis and a name, such as `"batch"` or `"source_length"`, per dynamic axis.
        dtype: Name of the dtype.
    """

    axes: tuple[int | str, ...]
    dtype: str

    @property
    def shape(self) -> tuple[int | None, ...]:
        """`axes` with `None` for dynamic axes."""
        return tuple(axis if isinstance(axis, int) else None for axis in self.axes)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.axes) and all(a in (None, b) for a, b in zip(self.shape, shape, strict=True))

    def sized(self, sizes: dict[str, int]) -> TensorSpec:
        """The spec with the axes in `sizes`, name -> integer, fixed."""
        return TensorSpec(tuple(sizes.get(axis, axis) for axis in self.axes), self.dtype)
