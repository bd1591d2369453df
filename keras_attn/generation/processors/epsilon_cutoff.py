"""Epsilon sampling."""

from __future__ import annotations

import dataclasses
import math

import keras
from keras import ops

from keras_attn.argument_checks import check_positive, check_probability
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import keep_above, log_probabilities
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class EpsilonCutoff(LogitProcessor):
    """Bans tokens whose probability is below `epsilon`, except the most likely one.

    Args:
        epsilon: A probability.
        min_tokens_to_keep: Number of most likely tokens that are never banned.

    Raises:
        ValueError: If `epsilon` is not in (0, 1], or `min_tokens_to_keep` is not a positive integer.

    Reference:
        [Truncation Sampling as Language Model Desmoothing](https://arxiv.org/abs/2210.15191), Hewitt et al., 2022.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import EpsilonCutoff
    >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], "float32"))
    >>> np.asarray(EpsilonCutoff(0.2)(logits, (), 0)) == logits
    array([[False, True, True]])
    """

    epsilon: float
    min_tokens_to_keep: int = 1

    def __post_init__(self):
        check_probability(epsilon=self.epsilon)
        check_positive(min_tokens_to_keep=self.min_tokens_to_keep)

    def graph_numbers(self) -> dict[str, float]:
        return {"epsilon": math.log(self.epsilon)}

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        logs = log_probabilities(logits)
        threshold = self.number("epsilon")
        threshold = ops.minimum(threshold, ops.max(logs, axis=-1, keepdims=True))
        return keep_above(logs, threshold, logits, self.min_tokens_to_keep)
