"""Top-k sampling."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import keep_above
from keras_attn.generation.settings import power_of_two
from keras_attn.ops.arrays import reshape
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class TopK(LogitProcessor):
    """Bans all but the `k` most likely tokens; ties with the last one are kept.

    Args:
        k: Number of tokens; a smaller vocabulary is kept entirely.
        min_tokens_to_keep: Number of most likely tokens that are never banned.

    Raises:
        ValueError: If `k` or `min_tokens_to_keep` is not a positive integer.

    Reference:
        [Hierarchical Neural Story Generation](https://arxiv.org/abs/1805.04833), Fan et al., 2018.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, TopK
    >>> np.asarray(TopK(2)(np.array([[1.0, 4.0, 3.0]], "float32"), (), 0)) > BANNED
    array([[False, True, True]])
    """

    k: int
    min_tokens_to_keep: int = 1

    def __post_init__(self):
        check_positive(k=self.k, min_tokens_to_keep=self.min_tokens_to_keep)

    def graph_numbers(self) -> dict[str, float]:
        return {"k": int(self.k)}

    def shared(self) -> tuple[Self, dict[str, Any]]:
        settings, numbers = super().shared()
        return settings.unchecked(k=power_of_two(self.k)) if numbers else settings, numbers

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        values, _ = ops.top_k(logits, min(max(self.k, self.min_tokens_to_keep), logits.shape[-1]))
        least, k = values[:, -1:], self.number("k")
        if ops.is_tensor(k):
            # One graph serves all `k` up to a power of two, and computes that many top values.
            count = ops.minimum(ops.maximum(k, self.min_tokens_to_keep), values.shape[-1])
            least = ops.take(values, reshape(count - 1, (1,)), axis=1)
        return keep_above(logits, least, logits)
