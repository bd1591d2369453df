"""Luong attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.recurrent.additive_attention import AdditiveAttention
from keras_attn.layers.recurrent.alignment import Alignment
from keras_attn.typing import Tensor

SCORES = ("dot", "scaled", "general", "scaled_general", "concat")


@keras.saving.register_keras_serializable(package="keras_attn")
class LuongAttention(Alignment):
    """Luong attention: `softmax(score(query, key)) value` with one of five scores.

    * `"dot"`: `query^T key`.
    * `"scaled"`: `g query^T key` with a trained scalar `g`, as in `keras.layers.Attention(use_scale=True)`.
    * `"general"`: `query^T W key`.
    * `"scaled_general"`: `g query^T W key`, as in TensorFlow Addons with `scale=True`.
    * `"concat"`: `v^T tanh(W [query; key])`.

    Args:
        score: "dot", "scaled", "general", "scaled_general" or "concat".
        units: Width of the hidden layer; only for "concat".
        dropout, seed, **kwargs: See `Alignment`.

    Call arguments:
        query: Float `(B, T, Dq)`; for "dot" and "scaled", `Dq` must be the width of the keys.
        value: Float `(B, S, Dv)`.
        key: Optional float `(B, S, Dk)`. Defaults to `value`.
        query_mask, value_mask, attention_mask, return_attention_scores, training: See `Alignment`.

    Returns:
        Float `(B, T, Dv)`, or `(output, scores)` with `return_attention_scores`; scores are `(B, T, S)`.

    Raises:
        ValueError: If `score` is unknown, `units` does not fit it, or a rank, width or mask shape does not fit.

    Reference:
        [Luong et al., 2015](https://arxiv.org/abs/1508.04025), section 3.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import LuongAttention
    >>> attention = LuongAttention("general")
    >>> tuple(attention(np.ones((2, 3, 16), "float32"), np.ones((2, 5, 32), "float32")).shape)
    (2, 3, 32)
    """

    def __init__(self, score: str = "dot", units: int | None = None, **kwargs: Any) -> None:
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {list(SCORES)}. Received: score={score!r}")
        if (units is not None) != (score == "concat"):
            raise ValueError(
                "`units` must be given for score='concat', and None for others. "
                f"Received: score={score!r}, units={units}"
            )
        super().__init__(**kwargs)
        self.score = score
        self.units = units
        # W [query; key] is a sum of two products, which is Bahdanau's energy without the bias.
        self.concat = None
        if score == "concat":
            self.concat = AdditiveAttention(units, use_bias=False, dtype=self.dtype_policy, name="concat")

    def build_weights(self, query_dim: int, key_dim: int) -> None:
        if self.score == "concat":
            self.concat.build((None, None, query_dim), (None, None, key_dim))
        elif self.score.endswith("general"):
            self.key_dense = self._projection("key", key_dim, query_dim)
        else:
            super().build_weights(query_dim, key_dim)
        if self.score.startswith("scaled"):
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def project_memory(self, value: Tensor, key: Tensor | None = None) -> Tensor:
        key = value if key is None else key
        if self.score == "concat":
            return self.concat.project_memory(key)
        return self.key_dense(key) if self.score.endswith("general") else key

    def project_query(self, query: Tensor) -> Tensor:
        return self.concat.project_query(query) if self.score == "concat" else query

    def energies(self, queries: Tensor, keys: Tensor, state: tuple[Tensor, ...] = ()) -> Tensor:
        if self.score == "concat":
            return self.concat.energies(queries, keys)
        if self.score.startswith("scaled"):
            queries = ops.multiply(queries, ops.cast(self.scale, queries.dtype))
        return super().energies(queries, keys)
