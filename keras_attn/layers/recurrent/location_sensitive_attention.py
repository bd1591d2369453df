"""Location-sensitive attention."""

from __future__ import annotations

from typing import Any, Self

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.recurrent.additive_attention import AdditiveAttention
from keras_attn.ops.arrays import add, conv
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class LocationSensitiveAttention(AdditiveAttention):
    """Additive attention whose energies depend on the weights of earlier queries.

    The energy is `v^T tanh(W query + U key + V f + b)`, where `f = F * a` convolves the weights `a` `(B, S)` of the
    previous query, or with `cumulative` the sum over all previous queries. For the first query, `a` is zero.

    Args:
        units: Width of the hidden layer.
        filters: Number of convolution filters. With None, the convolution has `units` filters and there is no `V`.
        kernel_size: Kernel size of the convolution.
        cumulative: Whether `a` is the sum over all previous queries, as in Tacotron 2, or the weights of the last one.
        **kwargs: Other arguments of `AdditiveAttention`.

    Call arguments:
        query: Float `(B, T, Dq)`, processed in order.
        value, key: Float `(B, S, Dv)` and optionally `(B, S, Dk)`.
        query_mask, value_mask, attention_mask, return_attention_scores, training: See `Alignment`.

    Returns:
        Float `(B, T, Dv)`, or `(output, scores)` with `return_attention_scores`; scores are `(B, T, S)`.

    Raises:
        ValueError: If a size is not positive, or a rank or mask shape does not fit.

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
        """The coverage of See et al.: adds the summed weights of a key, times a trained vector, to its hidden layer."""
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
        features = conv(weights, ops.cast(self.location_filters, weights.dtype), padding="same")
        if self.filters is not None:
            features = self.location_dense(features)
        return super().energies(queries, add(keys, features))
