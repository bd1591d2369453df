"""Wraps a function from texts to ids as a tokenizer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_attn.argument_checks import is_count


class CallableTokenizer:
    """Wraps a function from texts to ids, for data sets.

    Args:
        function: Function of a list of `B` texts that returns their ids: `B` lists or arrays, a `tf.RaggedTensor`, or a
            matrix `(B, L)`, right-padded with `pad_id`, such as from `keras.layers.TextVectorization`.
        pad_id: The id of padding.
        start_id: The id before targets, or None.
        end_id: The id after targets, or None.

    Raises:
        ValueError: If `function` is not callable, or an id is negative.

    Example:

    >>> from keras_attn.training import CallableTokenizer
    >>> tokenizer = CallableTokenizer(lambda texts: [[ord(c) for c in text] for text in texts], start_id=2, end_id=3)
    >>> tokenizer.tokenize(["ab", "c"])
    [[97, 98], [99]]
    """

    # The data set adds no special ids to those of `function`, except for targets.
    prefix = suffix = ()

    def __init__(
        self,
        function: Callable[[Sequence[str]], Any],
        pad_id: int = 0,
        start_id: int | None = None,
        end_id: int | None = None,
    ) -> None:
        if not callable(function):
            raise ValueError(f"`function` must be callable. Received: function={function!r}")
        ids = {"pad_id": pad_id, "start_id": start_id, "end_id": end_id}
        if bad := {name: i for name, i in ids.items() if not (is_count(i) or (i is None and name != "pad_id"))}:
            raise ValueError(f"Special ids must be non-negative integers. Received: {bad}")
        self.function = function
        self.pad_id, self.start_id, self.end_id = pad_id, start_id, end_id

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns lists of ids, without padding."""
        rows = self.function(list(texts))
        if hasattr(rows, "to_list"):
            return rows.to_list()
        if hasattr(rows, "shape"):
            rows = _unpadded(rows, self.pad_id)
        return [list(row) for row in rows]


def _unpadded(matrix, pad_id):
    import keras

    matrix = keras.ops.convert_to_numpy(matrix)
    if matrix.ndim != 2:
        raise ValueError(f"`function` must return a row of ids for each text. Received: shape {matrix.shape}")
    lengths = ((matrix != pad_id) * np.arange(1, matrix.shape[1] + 1)).max(axis=1, initial=0)
    return [row[:length].tolist() for row, length in zip(matrix, lengths.tolist(), strict=True)]
