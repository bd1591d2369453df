"""Locally typical sampling."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_attn.argument_checks import check_positive, check_probability
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import keep_above, log_probabilities, mass_threshold
from keras_attn.ops.arrays import axis_size, reshape
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class Typical(LogitProcessor):
    """Keeps the smallest set of most typical tokens whose total probability reaches `p`.

    A token `x` is more typical the smaller `|-log p(x) - H|` is, where `H` is the entropy of the distribution. Ties
    with the last one are kept.

    Args:
        p: A probability.
        min_tokens_to_keep: Number of most typical tokens that are never banned.

    Raises:
        ValueError: If `p` is not in (0, 1], or `min_tokens_to_keep` is not a positive integer.

    Reference:
        [Locally Typical Sampling](https://arxiv.org/abs/2202.00666), Meister et al., 2022.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import Typical
    >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], "float32"))
    >>> np.asarray(Typical(0.2)(logits, (), 0)) == logits
    array([[False, False, True]])
    """

    p: float
    min_tokens_to_keep: int = 1

    def __post_init__(self):
        check_probability(p=self.p)
        check_positive(min_tokens_to_keep=self.min_tokens_to_keep)

    def graph_numbers(self) -> dict[str, float]:
        return {} if self.p == 1 else {"p": float(self.p)}

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        if self.p == 1:
            return logits
        size = logits.shape[-1]
        logs = log_probabilities(logits)
        probabilities = ops.exp(logs)
        negative_entropy = ops.sum(logs * probabilities, axis=-1, keepdims=True)
        closeness = ops.negative(ops.abs(logs - negative_entropy))
        falling, order = ops.top_k(closeness, size)
        starts = ops.expand_dims(ops.multiply(ops.arange(axis_size(logits, 0), dtype="int32"), size), 1)
        ordered = ops.take(reshape(probabilities, (-1,)), ops.cast(order, "int32") + starts)
        threshold = mass_threshold(falling, ordered, self.number("p"))
        return keep_above(closeness, threshold, logits, self.min_tokens_to_keep)
