"""Many rows of ids in one flat array."""

import numpy as np


class RaggedIds:
    """Rows of ids of various lengths.

    Args:
        flat: int32 `(tokens,)`, the rows one behind the other.
        lengths: int `(rows,)`.

    Attributes:
        flat: int32 `(tokens,)`.
        lengths: int32 `(rows,)`.
        starts: int64 `(rows,)`, where in `flat` each row begins.
    """

    def __init__(self, flat, lengths):
        self.flat, self.lengths = flat, lengths.astype(np.int32)
        self.starts = np.cumsum(lengths, dtype=np.int64) - lengths

    def padded(self, rows, width, pad_id, begin=0, end=0):
        """Rows as a matrix.

        Args:
            rows: int `(B,)`; -1 makes a row of padding.
            width: columns of the matrix.
            pad_id: what stands behind the ids.
            begin, end: how many of the first and of the last ids of each row are left out.

        Returns:
            int32 `(B, width)`.
        """
        columns = np.arange(width)
        lengths = np.where(rows < 0, 0, self.lengths[rows] - (begin + end))
        places = (self.starts[rows] + begin)[:, None] + columns
        return np.where(columns < lengths[:, None], self.flat.take(places, mode="clip"), np.int32(pad_id))
