"""Exponential length penalty."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_positive_number
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import bounded, end_tokens, in_float32, is_end, unless_banned
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class ExponentialLengthDecay(LogitProcessor):
    """Adds `|x| (factor ** (t - start_length) - 1)` to the logits `x` of the end tokens.

    `t` is the number of generated tokens; nothing is added while `t <= start_length`.

    Args:
        start_length: Number of generated tokens after which the end is favoured.
        factor: A number; above 1 it favours the end, below 1 it defers it.

    Raises:
        ValueError: If `start_length` is not a non-negative integer, or `factor` is not a positive number.

    Reference:
        `ExponentialDecayLengthPenalty` of Hugging Face.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import ExponentialLengthDecay, History
    >>> ids = np.array([[2]])
    >>> processor = ExponentialLengthDecay(start_length=1, factor=2.0)
    >>> state = processor.start(History(ids, ids > 0, vocabulary_size=4, max_length=7, end_ids=(3,)))
    >>> [float(processor(-np.ones((1, 4), "float32"), state, step)[0, 3]) for step in range(4)]
    [-1.0, -1.0, 0.0, 2.0]
    """

    start_length: int
    factor: float

    needs_end = True

    def __post_init__(self):
        check_count(start_length=self.start_length)
        check_positive_number(factor=self.factor)

    def graph_numbers(self) -> dict[str, float]:
        return {"start_length": int(self.start_length), "factor": in_float32(self.factor)}

    def start(self, history: History) -> tuple[Tensor, ...]:
        return (end_tokens(history),)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        beyond = ops.cast(ops.maximum(ops.subtract(step, self.number("start_length")), 0), "float32")
        growth = ops.clip(ops.power(self.number("factor"), beyond) - 1.0, BANNED, -BANNED)
        favoured = bounded(add(logits, bounded(ops.multiply(ops.abs(logits), growth))))
        return unless_banned(logits, ops.where(is_end(state[0], logits.shape[-1]), favoured, logits))
