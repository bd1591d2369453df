"""Base class of the position layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.ops.arrays import axis_size
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class PositionEncoding(Configurable, keras.layers.Layer):
    """Base class of all position layers; by itself it adds no position information.

    Subclasses override the hooks they need; the default hooks change nothing. Embeddings and attention call all hooks.

    Call arguments:
        inputs: Float `(B, T, D)`, or `(B, ..., T, D)`.
        positions: Optional int32 `(B, T)` or `(1, T)`, or `(B, ..., T)` for inputs with more axes. Defaults to `0, 1,
            ..., T - 1`.

    Returns:
        `add_to_embeddings(inputs, positions)`, float `(B, T, D)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import PositionEncoding
    >>> tuple(PositionEncoding()(np.ones((2, 5, 8), "float32")).shape)
    (2, 5, 8)
    """

    # Number of distinct positions; None if unlimited.
    max_length = None
    # Whether `content_value` is used; the attention kernel must then return its scores.
    uses_scores = False
    # Whether `rotate` depends on the length of the row, its highest position plus one.
    depends_on_length = False
    # Whether caches hold keys as they are before `rotate`; `rotate_cache` is then called in every step.
    rotates_cache = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, inputs_shape: Shape | None = None) -> None:
        """Creates the weights, if any."""

    def add_to_embeddings(self, x: Tensor, positions: Tensor) -> Tensor:
        """Hook for token embeddings: `x` `(B, T, D)`, `positions` int32 `(B, T)` or `(1, T)`; returns `(B, T, D)`."""
        return x

    def rotate(self, heads: Tensor, positions: Tensor) -> Tensor:
        """Hook for queries and keys: `heads` `(B, N, T, H)`, `positions` as above; returns `(B, N, T, H)`."""
        return heads

    def rotate_cache(self, keys: Tensor, key_positions: Tensor, query_positions: Tensor) -> Tensor:
        """Hook for cached keys if `rotates_cache`: `(B, K, M, H)` at positions `(B, M)` or `(1, M)`, for a row whose
        last queries are at `query_positions` `(B, T)` or `(1, T)`; returns `(B, K, M, H)`."""
        return self.rotate(keys, key_positions)

    def logit_bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Hook for logits: positions `(B, T)` and `(B, S)`; returns a bias of shape `(B, N, T, S)` or less, or None."""
        return None

    def content_bias(self, queries: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """As `logit_bias`, but also takes the `queries` `(B, N, T, H)`, rotated and scaled."""
        return None

    def content_value(self, scores: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Hook for head outputs if `uses_scores`: `scores` `(B, N, T, S)`; returns `(B, N, T, Hv)`, which is added."""
        return None

    def call(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        if positions is None:
            positions = ops.expand_dims(ops.arange(axis_size(inputs, -2), dtype="int32"), 0)
        for _ in inputs.shape[len(positions.shape) + 1 :]:
            positions = ops.expand_dims(positions, 1)
        return self.add_to_embeddings(inputs, positions)

    def compute_output_shape(self, inputs_shape: Shape, positions_shape: Shape | None = None) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs: Tensor, positions: Tensor | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
