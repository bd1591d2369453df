"""Monotonic attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.recurrent.alignment import Alignment
from keras_attn.ops.arrays import add, shape_of
from keras_attn.ops.monotonic import hard_monotonic, soft_monotonic
from keras_attn.typing import Initializer, Seed, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class MonotonicAttention(Alignment):
    """Each query scans keys from where the previous one stopped, and stops at key `j` with `p_j = sigmoid(e_j + r)`.

    In training ("soft"), the weights are the expectation `a_j = p_j sum_k<=j a'_k prod_k<=l<j (1 - p_l)`, where `a'`
    are the weights of the previous query. In inference ("hard"), the weight is one at the first key with `p_j > 0.5`
    that is not before the previous one, and zero elsewhere; all weights are zero if there is no such key. The energies
    `e` come from another layer.

    Args:
        energy: An `Alignment` layer that computes the energies.
        hard: True for hard weights, False for soft weights, None for soft weights in training only.
        noise: Standard deviation of the noise added to the energies in training, which encourages decisive energies.
        bias_initializer: Initializer of the trained scalar `r`. Long memories need a negative value.
        exact: Whether to compute the expectation exactly, in `log2(S)` steps over the keys, or by two cumulative sums,
            which lose weight if energies are decisive. See `keras_attn.ops.soft_monotonic`.
        dropout, seed, **kwargs: See `Alignment`.

    Call arguments:
        query: Float `(B, T, Dq)`.
        value: Float `(B, S, Dv)`.
        key: Optional float `(B, S, Dk)`. Defaults to `value`.
        query_mask, value_mask, attention_mask, return_attention_scores: See `Alignment`.
        training: Whether to apply dropout and noise, and to use soft weights if `hard` is None.

    Returns:
        Float `(B, T, Dv)`, or `(output, scores)` with `return_attention_scores`; scores are `(B, T, S)`. Scores sum to
        at most one per query; the rest is the probability of passing the last key.

    Raises:
        ValueError: If an argument is invalid.

    Reference:
        [Raffel et al., 2017](https://arxiv.org/abs/1704.00784)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AdditiveAttention, MonotonicAttention
    >>> attention = MonotonicAttention(AdditiveAttention(8, normalize=True), noise=1.0, bias_initializer="zeros")
    >>> tuple(attention(np.ones((2, 3, 16), "float32"), np.ones((2, 5, 32), "float32")).shape)
    (2, 3, 32)
    """

    recurrent = True

    def __init__(
        self,
        energy: Alignment,
        hard: bool | None = None,
        noise: float = 0.0,
        bias_initializer: Initializer = "zeros",
        seed: Seed | None = None,
        *,
        exact: bool = True,
        **kwargs: Any,
    ) -> None:
        energy = deserialized(energy)
        if not isinstance(energy, Alignment) or isinstance(energy, MonotonicAttention):
            raise ValueError(f"`energy` must be an Alignment layer that is not monotonic. Received: energy={energy!r}")
        if not noise >= 0:
            raise ValueError(f"`noise` must not be negative. Received: noise={noise}")
        super().__init__(seed=seed, **kwargs)
        self.energy = energy
        self.hard = hard
        self.noise = noise
        self.exact = exact
        self.bias_initializer = initializers.get(bias_initializer)
        if noise and self.seed_generator is None:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build_weights(self, query_dim: int, key_dim: int) -> None:
        if not self.energy.built:
            self.energy.build((None, None, query_dim), (None, None, key_dim))
        self.bias = self.add_weight(name="bias", shape=(), initializer=self.bias_initializer)

    def project_memory(self, value: Tensor, key: Tensor | None = None) -> Tensor:
        return self.energy.project_memory(value, key)

    def project_query(self, query: Tensor) -> Tensor:
        return self.energy.project_query(query)

    def initial_state(self, batch_size: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        first = ops.cast(ops.equal(ops.expand_dims(ops.arange(length, dtype="int32"), 0), 0), self.compute_dtype)
        return (*self.energy.initial_state(batch_size, length), ops.broadcast_to(first, (batch_size, length)))

    def next_state(self, weights: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*self.energy.next_state(weights, state[:-1]), weights)

    def energies(self, queries: Tensor, keys: Tensor, state: tuple[Tensor, ...] = ()) -> Tensor:
        energies = self.energy.energies(queries, keys, state[:-1])
        return add(energies, ops.cast(self.bias, energies.dtype))

    def weigh(self, energies: Tensor, mask: Tensor, state: tuple[Tensor, ...] = (), training: bool = False) -> Tensor:
        previous = ops.cast(ops.expand_dims(state[-1], 1), energies.dtype)
        if self.hard or (self.hard is None and not training):
            return hard_monotonic(energies, previous, mask)
        if training and self.noise:
            shape = shape_of(energies)
            energies += self.noise * keras.random.normal(shape, dtype=energies.dtype, seed=self.seed_generator)
        return soft_monotonic(energies, previous, mask, self.exact)
