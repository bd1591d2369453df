"""Presence and frequency penalties."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_finite
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import in_float32, is_token, unless_banned
from keras_attn.ops.arrays import add, axis_size
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class OccurrencePenalty(LogitProcessor):
    """Subtracts `presence * (count > 0) + frequency * count` from the logits.

    `count` is the number of times a token was generated, not including the prompt.

    Args:
        presence: A number; negative values encourage repetition.
        frequency: A number; negative values encourage repetition.

    Raises:
        ValueError: If one of them is not a finite number.

    Reference:
        [OpenAI's API](https://platform.openai.com/docs/api-reference/completions/create), `presence_penalty` and
        `frequency_penalty`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import History, OccurrencePenalty
    >>> ids, mask = np.array([[1]]), np.array([[True]])
    >>> history = History(ids, mask, vocabulary_size=4, max_length=7, end_ids=(3,))
    >>> processor = OccurrencePenalty(presence=1.0, frequency=0.25)
    >>> state = processor.start(history)
    >>> for step, token in enumerate((2, 0, 2)):
    ...     state = processor.update(state, np.array([token]), step)
    >>> np.asarray(processor(np.zeros((1, 4), "float32"), state, 3))
    array([[-1.25, 0. , -1.5 , 0. ]], dtype=float32)
    """

    presence: float = 0.0
    frequency: float = 0.0

    def __post_init__(self):
        check_finite(presence=self.presence, frequency=self.frequency)

    def graph_numbers(self) -> dict[str, float]:
        numbers = {"presence": self.presence, "frequency": self.frequency}
        # A penalty of 0 is not computed at all.
        return {name: in_float32(number) for name, number in numbers.items() if number}

    def start(self, history: History) -> tuple[Tensor, ...]:
        return (ops.zeros((axis_size(history.ids, 0), history.vocabulary_size), dtype="float32"),)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        [counts] = state
        if self.frequency:
            logits = unless_banned(logits, logits - self.number("frequency") * counts)
        if self.presence:
            logits = unless_banned(logits, logits - self.number("presence") * ops.minimum(counts, 1.0))
        return logits

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        [counts] = state
        return (add(counts, ops.cast(is_token(ops.expand_dims(tokens, 1), counts.shape[-1]), "float32")),)
