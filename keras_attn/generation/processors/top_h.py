"""Top-H sampling."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_attn.argument_checks import check_positive, check_probability
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import keep_above, log_probabilities
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class TopH(LogitProcessor):
    """Keeps the most likely tokens while their terms `-p log p` sum to at most `h` times the entropy.

    The most likely token is always kept, and so are ties with the last one. Probabilities are normalised over the
    `top_n` most likely tokens.

    Args:
        h: A share of the entropy, in (0, 1].
        top_n: Maximum number of tokens to keep.

    Raises:
        ValueError: If `h` is not in (0, 1], or `top_n` is not a positive integer.

    Reference:
        [Top-H Decoding](https://arxiv.org/abs/2509.02510), Potraghloo et al., 2025.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import TopH
    >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], "float32"))
    >>> np.asarray(TopH(0.8)(logits, (), 0)) == logits
    array([[False, True, True]])
    """

    h: float
    top_n: int = 100

    def __post_init__(self):
        check_probability(h=self.h)
        check_positive(top_n=self.top_n)

    def graph_numbers(self) -> dict[str, float]:
        return {"h": float(self.h)}

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        falling, _ = ops.top_k(logits, min(self.top_n, logits.shape[-1]))
        logs = log_probabilities(falling)
        probabilities = ops.exp(logs)
        terms = ops.negative(probabilities * logs)
        kept = ops.less_equal(ops.cumsum(terms, axis=-1), self.number("h") * ops.sum(terms, axis=-1, keepdims=True))
        # If one token has probability 1, all terms are 0.
        kept = ops.logical_and(kept, ops.greater(probabilities, 0.0))
        return keep_above(logits, ops.min(ops.where(kept, falling, falling[:, :1]), axis=-1, keepdims=True), logits)
