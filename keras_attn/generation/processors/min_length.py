"""Minimum length."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import end_tokens, is_end
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class MinLength(LogitProcessor):
    """Bans the end tokens while fewer than `length` tokens have been generated.

    Args:
        length: Minimum number of tokens before the end token.

    Raises:
        ValueError: If `length` is not a positive integer, or not below `max_length`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, History, MinLength
    >>> ids, mask = np.array([[2]]), np.array([[True]])
    >>> history = History(ids, mask, vocabulary_size=4, max_length=7, end_ids=(3,))
    >>> processor = MinLength(2)
    >>> state = processor.start(history)
    >>> [bool(processor(np.zeros((1, 4), "float32"), state, step)[0, 3] > BANNED) for step in range(3)]
    [False, False, True]
    """

    length: int

    def __post_init__(self):
        check_positive(length=self.length)

    def graph_numbers(self) -> dict[str, float]:
        return {"length": int(self.length)}

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        if self.length >= config.max_length:
            raise ValueError(
                f"`length` of MinLength must be below `max_length`={config.max_length}, so that a row can end. "
                f"Received: length={self.length}"
            )

    def start(self, history: History) -> tuple[Tensor, ...]:
        return (end_tokens(history),) if history.end_ids else ()

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        if not state:
            return logits
        early = ops.logical_and(is_end(state[0], logits.shape[-1]), ops.less(step, self.number("length")))
        return ops.where(early, BANNED, logits)
