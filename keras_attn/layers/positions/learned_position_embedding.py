"""Learned absolute position embedding."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops.arrays import add, axis_size, rows
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class LearnedPositionEmbedding(PositionEncoding):
    """Adds row `p` of a trained `(max_length, D)` table to the embedding at position `p`, as BERT and GPT-2 do.

    Args:
        max_length: Number of positions.
        embeddings_initializer: Initializer of the table.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`, or `(B, ..., T, D)`.
        positions: Optional int32 `(B, T)` or `(1, T)`, below `max_length`; `T` itself may be larger for packed
            sequences. Defaults to `0, 1, ..., T - 1`.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If `max_length` is not a positive integer, or the inputs are known to be longer and `positions` is
            None.

    Reference:
        [Gehring et al., 2017](https://arxiv.org/abs/1705.03122)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import LearnedPositionEmbedding
    >>> tuple(LearnedPositionEmbedding(max_length=16)(np.ones((2, 5, 8), "float32")).shape)
    (2, 5, 8)
    """

    def __init__(self, max_length: int, embeddings_initializer: Initializer = "glorot_uniform", **kwargs: Any) -> None:
        check_positive(max_length=max_length)
        super().__init__(**kwargs)
        self.max_length = max_length
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, inputs_shape: Shape) -> None:
        self.position_embeddings = self.add_weight(
            name="position_embeddings",
            shape=(self.max_length, inputs_shape[-1]),
            initializer=self.embeddings_initializer,
        )

    def call(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        if positions is not None:
            return super().call(inputs, positions)
        length = inputs.shape[-2]
        if length is None:
            length = self._checked(axis_size(inputs, -2))
        elif length > self.max_length:
            raise ValueError(
                f"`inputs` must be at most `max_length`={self.max_length} long. "
                f"Received: inputs of shape {inputs.shape}"
            )
        # A slice has a dense gradient. The sparse gradient of a gather made training steps 1.8 times as long under
        # Adam.
        return add(inputs, ops.cast(ops.expand_dims(self.position_embeddings[:length], 0), inputs.dtype))

    def add_to_embeddings(self, x: Tensor, positions: Tensor) -> Tensor:
        with keras.name_scope(self._fault):
            found = ops.take(self.position_embeddings, positions, axis=0)
        return add(x, ops.cast(found, x.dtype))

    def _checked(self, length):
        """`length`, from an operation that fails above `max_length`; a slice of the table would silently be shorter."""
        with keras.name_scope(self._fault):
            return length + rows(ops.zeros((self.max_length,), dtype="int32"), ops.maximum(length - 1, 0))

    @property
    def _fault(self):
        """Name of the operation, which runtimes report if it fails."""
        return f"inputs_must_have_at_most_{self.max_length}_positions"
