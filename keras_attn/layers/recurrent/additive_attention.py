"""Additive attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.recurrent.alignment import Alignment
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class AdditiveAttention(Alignment):
    """Bahdanau attention: `softmax(v^T tanh(W query + U key + b)) value`.

    `keras.layers.AdditiveAttention` is the special case in which `W` and `U` are the identity and `b` is zero.

    Args:
        units: Width of the hidden layer.
        normalize: Whether to use weight normalisation, `g v / ||v||` with a trained `g` instead of `v`.
        use_bias: Whether to add the bias `b`.
        dropout, seed, **kwargs: See `Alignment`.

    Call arguments:
        query, value, key: Float `(B, T, Dq)`, `(B, S, Dv)` and optionally `(B, S, Dk)`.
        query_mask, value_mask, attention_mask, return_attention_scores, training: See `Alignment`.

    Returns:
        Float `(B, T, Dv)`, or `(output, scores)` with `return_attention_scores`; scores are `(B, T, S)`.

    Raises:
        ValueError: If `units` is not positive, or a rank or mask shape does not fit.

    Reference:
        [Bahdanau et al., 2015](https://arxiv.org/abs/1409.0473), appendix A.1.2; weight normalisation
        [Salimans and Kingma, 2016](https://arxiv.org/abs/1602.07868)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AdditiveAttention
    >>> attention = AdditiveAttention(units=8, normalize=True)
    >>> tuple(attention(np.ones((2, 3, 16), "float32"), np.ones((2, 5, 32), "float32")).shape)
    (2, 3, 32)
    """

    def __init__(self, units: int, normalize: bool = False, use_bias: bool = True, **kwargs: Any) -> None:
        check_positive(units=units)
        super().__init__(**kwargs)
        self.units, self.normalize, self.use_bias = units, normalize, use_bias

    def build_weights(self, query_dim: int, key_dim: int) -> None:
        self.query_dense = self._projection("query", query_dim, self.units, self.use_bias)
        self.key_dense = self._projection("key", key_dim, self.units)
        self.score_vector = self.add_weight(name="score_vector", shape=(self.units, 1), initializer="glorot_uniform")
        if self.normalize:
            gain = keras.initializers.Constant(self.units**-0.5)
            self.gain = self.add_weight(name="gain", shape=(), initializer=gain)

    def project_memory(self, value: Tensor, key: Tensor | None = None) -> Tensor:
        return self.key_dense(value if key is None else key)

    def project_query(self, query: Tensor) -> Tensor:
        return self.query_dense(query)

    def energies(self, queries: Tensor, keys: Tensor, state: tuple[Tensor, ...] = ()) -> Tensor:
        vector = self.score_vector
        if self.normalize:
            vector = self.gain * vector * ops.rsqrt(ops.sum(ops.square(vector)))
        hidden = ops.tanh(add(ops.expand_dims(queries, 2), ops.expand_dims(keys, 1)))
        return ops.squeeze(ops.matmul(hidden, ops.cast(vector, hidden.dtype)), -1)
