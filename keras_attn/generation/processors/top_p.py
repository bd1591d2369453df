"""Top-p (nucleus) sampling."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_attn.argument_checks import check_positive, check_probability
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import keep_above, mass_threshold
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class TopP(LogitProcessor):
    """Keeps the smallest set of most likely tokens whose total probability reaches `p` (nucleus sampling).

    Ties with the last one are kept.

    Args:
        p: A probability.
        min_tokens_to_keep: Number of most likely tokens that are never banned.

    Raises:
        ValueError: If `p` is not in (0, 1], or `min_tokens_to_keep` is not a positive integer.

    Reference:
        [The Curious Case of Neural Text Degeneration](https://arxiv.org/abs/1904.09751), Holtzman et al., 2019.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import TopP
    >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], "float32"))
    >>> np.asarray(TopP(0.8)(logits, (), 0)) == logits
    array([[False, True, True]])
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
        falling, _ = ops.top_k(logits, logits.shape[-1])
        threshold = mass_threshold(falling, ops.softmax(falling, axis=-1), self.number("p"))
        return keep_above(logits, threshold, logits, self.min_tokens_to_keep)
