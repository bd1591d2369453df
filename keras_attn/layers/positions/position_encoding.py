"""What every position layer has in common."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class PositionEncoding(Configurable, keras.layers.Layer):
    """Base of all position layers, and the one that adds no position at all.

    A kind overrides the hook at the place where it acts; the others are the identity. Embeddings and attention call
    all hooks of the layer they were given, so that they need not know its kind.

    Call arguments:
        inputs: float `(B, T, D)`, or `(B, ..., T, D)`.
        positions: optional int32 `(B, T)` or `(1, T)`; `0, 1, ..., T - 1` where None. Inputs of more axes may have
            positions `(B, ..., T)`.

    Returns:
        `add_to_embeddings(inputs, positions)`, float `(B, T, D)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import PositionEncoding
    >>> tuple(PositionEncoding()(np.ones((2, 5, 8), "float32")).shape)
    (2, 5, 8)
    """

    # How many positions can be told apart; None for any number.
    max_length = None
    # Whether `content_value` acts; a kernel must then hand out its scores.
    uses_scores = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, inputs_shape: Shape | None = None) -> None:
        """Makes the weights of a kind that has some."""

    def add_to_embeddings(self, x: Tensor, positions: Tensor) -> Tensor:
        """Hook on token embeddings: `x` `(B, T, D)`, `positions` int32 `(B, T)` or `(1, T)`; returns `(B, T, D)`."""
        return x

    def rotate(self, heads: Tensor, positions: Tensor) -> Tensor:
        """Hook on queries and keys: `heads` `(B, N, T, H)`, `positions` as above; returns `(B, N, T, H)`."""
        return heads

    def logit_bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Hook on logits: positions `(B, T)` and `(B, S)`; returns float that broadcasts to `(B, N, T, S)`, or None."""
        return None

    def content_bias(self, queries: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Hook on logits that looks at the queries: `queries` `(B, N, T, H)`, rotated and scaled; else as above."""
        return None

    def content_value(self, scores: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Hook on the heads' outputs, where `uses_scores`: `scores` `(B, N, T, S)`; returns `(B, N, T, Hv)`, added."""
        return None

    def call(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        if positions is None:
            positions = ops.expand_dims(ops.arange(ops.shape(inputs)[-2], dtype="int32"), 0)
        for _ in inputs.shape[len(positions.shape) + 1 :]:
            positions = ops.expand_dims(positions, 1)
        return self.add_to_embeddings(inputs, positions)

    def compute_output_shape(self, inputs_shape: Shape, positions_shape: Shape | None = None) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs: Tensor, positions: Tensor | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
