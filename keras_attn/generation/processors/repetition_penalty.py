"""Repetition penalty."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_positive_number
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import bounded, in_float32, is_token, unless_banned
from keras_attn.ops.arrays import axis_size
from keras_attn.ops.occurrences import occurrences
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class RepetitionPenalty(LogitProcessor):
    """Penalises tokens that occur in the prompt or the generated tokens, regardless of how often.

    Their logits `x` become `x * penalty` if negative, and `x / penalty` otherwise.

    Args:
        penalty: A number; above 1 it penalises repetition, below 1 it encourages it.
        prompt_ignore_length: Number of leading prompt tokens to ignore; None ignores none.

    Raises:
        ValueError: If `penalty` is not a positive number, or `prompt_ignore_length` is not a non-negative integer.

    Reference:
        [CTRL](https://arxiv.org/abs/1909.05858), Keskar et al., 2019.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import History, RepetitionPenalty
    >>> ids, mask = np.array([[1, 0]]), np.array([[True, False]])
    >>> history = History(ids, mask, vocabulary_size=4, max_length=7, end_ids=(3,))
    >>> processor = RepetitionPenalty(2.0)
    >>> state = processor.update(processor.start(history), np.array([2]), 0)
    >>> np.asarray(processor(np.array([[8.0, 8.0, -8.0, -8.0]], "float32"), state, 1))
    array([[ 8., 4., -16., -8.]], dtype=float32)
    """

    penalty: float
    prompt_ignore_length: int | None = None

    def __post_init__(self):
        check_positive_number(penalty=self.penalty)
        if self.prompt_ignore_length is not None:
            check_count(prompt_ignore_length=self.prompt_ignore_length)

    def graph_numbers(self) -> dict[str, float]:
        numbers = {"penalty": in_float32(self.penalty)}
        if self.prompt_ignore_length:
            numbers["prompt_ignore_length"] = int(self.prompt_ignore_length)
        return numbers

    def start(self, history: History) -> tuple[Tensor, ...]:
        mask = history.mask
        if self.prompt_ignore_length:
            places = ops.expand_dims(ops.arange(axis_size(history.ids, 1), dtype="int32"), 0)
            mask = ops.logical_and(mask, ops.greater_equal(places, self.number("prompt_ignore_length")))
        return (occurrences(history.ids, mask, history.vocabulary_size),)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        return penalised(logits, state[0], self.number("penalty"))

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        [seen] = state
        return (ops.logical_or(seen, is_token(ops.expand_dims(tokens, 1), seen.shape[-1])),)


def penalised(logits, seen, penalty):
    """Applies `penalty`, a positive float32 number, to the logits `(R, V)` of tokens for which `seen` is True."""
    less, more = bounded(ops.multiply(logits, penalty)), bounded(ops.divide(logits, penalty))
    return unless_banned(logits, ops.where(seen, ops.where(ops.less(logits, 0.0), less, more), logits))
