"""Attention that knows where it was."""

from __future__ import annotations

from typing import Any, Self

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.recurrent.additive_attention import AdditiveAttention
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class LocationSensitiveAttention(AdditiveAttention):
    """Additive attention whose energies see the weights of the queries before.

    `v^T tanh(W query + U key + V f + b)`, where `f = F * a` convolves the weights `a` `(B, S)` of the last query, or
    with `cumulative` the sum of those of all queries before. The first query finds zeros.

    Args:
        units: width `U` of the hidden layer.
        filters: number of convolution filters; None convolves to `units` directly, without `V`.
        kernel_size: how many neighbouring weights a filter sees.
        cumulative: whether `a` is the sum over all queries before, as in Tacotron 2, or the last one's weights.
        **kwargs: further arguments of `AdditiveAttention`.

    Call arguments:
        query: float `(B, T, Dq)`, whose queries come one after another.
        value, key: float `(B, S, Dv)` and optionally `(B, S, Dk)`.
        query_mask, value_mask, attention_mask, return_attention_scores, training: see `Alignment`.

    Returns:
        Float `(B, T, Dv)`; `(output, scores)` with `return_attention_scores`, scores `(B, T, S)`.

    Raises:
        ValueError: a size is not positive, or a rank or a mask does not fit.

    Reference:
        [Chorowski et al., 2015](https://arxiv.org/abs/1506.07503), section 2.1; cumulative
        [Shen et al., 2018](https://arxiv.org/abs/1712.05884); coverage
        [See et al., 2017](https://arxiv.org/abs/1704.04368)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import LocationSensitiveAttention
    >>> attention = LocationSensitiveAttention(units=8, filters=4, kernel_size=3)
    >>> tuple(attention(np.ones((2, 3, 16), "float32"), np.ones((2, 5, 32), "float32")).shape)
    (2, 3, 32)
    """

    recurrent = True

    def __init__(
        self, units: int, filters: int | None = 32, kernel_size: int = 31, cumulative: bool = False, **kwargs: Any
    ) -> None:
        check_positive(kernel_size=kernel_size)
        if filters is not None:
            check_positive(filters=filters)
        super().__init__(units, **kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.cumulative = cumulative

    @classmethod
    def coverage(cls, units: int, **kwargs: Any) -> Self:
        """The coverage of See et al.: each key's own sum of weights, times a trained vector, joins its hidden layer."""
        return cls(units, filters=None, kernel_size=1, cumulative=True, **kwargs)

    def build_weights(self, query_dim: int, key_dim: int) -> None:
        super().build_weights(query_dim, key_dim)
        shape = (self.kernel_size, 1, self.filters or self.units)
        self.location_filters = self.add_weight(name="location_filters", shape=shape, initializer="glorot_uniform")
        if self.filters is not None:
            self.location_dense = self._projection("location", self.filters, self.units)

    def initial_state(self, batch_size: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        return (ops.zeros((batch_size, length), dtype=self.compute_dtype),)

    def next_state(self, weights: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (add(state[0], weights) if self.cumulative else weights,)

    def energies(self, queries: Tensor, keys: Tensor, state: tuple[Tensor, ...] = ()) -> Tensor:
        weights = ops.expand_dims(state[0], -1)
        features = ops.conv(weights, ops.cast(self.location_filters, weights.dtype), padding="same")
        if self.filters is not None:
            features = self.location_dense(features)
        return super().energies(queries, add(keys, features))
