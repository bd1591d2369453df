"""Min-p sampling."""

from __future__ import annotations

import dataclasses
import math

import keras
from keras import ops

from keras_attn.argument_checks import check_positive, check_probability
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import keep_above
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class MinP(LogitProcessor):
    """Bans tokens whose probability is below `p` times that of the most likely token.

    Args:
        p: A number in (0, 1].
        min_tokens_to_keep: Number of most likely tokens that are never banned.

    Raises:
        ValueError: If `p` is not in (0, 1], or `min_tokens_to_keep` is not a positive integer.

    Reference:
        [Turning Up the Heat: Min-p Sampling](https://arxiv.org/abs/2407.01082), Nguyen et al., 2024.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import MinP
    >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], "float32"))
    >>> np.asarray(MinP(0.4)(logits, (), 0)) == logits
    array([[False, True, True]])
    """

    p: float
    min_tokens_to_keep: int = 1

    def __post_init__(self):
        check_probability(p=self.p)
        check_positive(min_tokens_to_keep=self.min_tokens_to_keep)

    def graph_numbers(self) -> dict[str, float]:
        return {"p": math.log(self.p)}

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        threshold = ops.max(logits, axis=-1, keepdims=True) + self.number("p")
        return keep_above(logits, threshold, logits, self.min_tokens_to_keep)
