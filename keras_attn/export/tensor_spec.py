"""What goes into an artefact: shapes with named dynamic axes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of an input.

    Args:
        axes: tuple; an int for a fixed axis, a name such as `"batch"` or `"source_length"` for a dynamic one.
        dtype: name of the dtype.
    """

    axes: tuple
    dtype: str

    @property
    def shape(self):
        """`axes` with `None` for the dynamic ones."""
        return tuple(axis if isinstance(axis, int) else None for axis in self.axes)
