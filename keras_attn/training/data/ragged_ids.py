"""Rows of ids in one flat array."""

import numpy as np


class RaggedIds:
    """Rows of ids of different lengths.

    Args:
        flat: Int32 `(tokens,)`, the concatenated rows.
        lengths: Integer `(rows,)`.

    Attributes:
        flat: Int32 `(tokens,)`.
        lengths: Int32 `(rows,)`.
        starts: Int64 `(rows,)`, the start of each row in `flat`.
    """

    def __init__(self, flat, lengths):
        self.flat, self.lengths = flat, lengths.astype(np.int32)
        self.starts = np.cumsum(lengths, dtype=np.int64) - lengths

    def padded(self, rows, width, pad_id, begin=0, end=0):
        """Returns rows as a right-padded matrix.

        Args:
            rows: Integer `(B,)`. -1 gives a row of padding.
            width: Number of columns.
            pad_id: The padding id.
            begin, end: Number of ids to omit at the start and at the end of each row.

        Returns:
            Int32 `(B, width)`.
        """
        columns = np.arange(width)
        lengths = np.where(rows < 0, 0, self.lengths[rows] - (begin + end))
        places = (self.starts[rows] + begin)[:, None] + columns
        return np.where(columns < lengths[:, None], self.flat.take(places, mode="clip"), np.int32(pad_id))
