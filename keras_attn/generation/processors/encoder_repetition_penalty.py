"""Encoder repetition penalty."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras

from keras_attn.argument_checks import check_positive_number
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.repetition_penalty import penalised
from keras_attn.generation.processors.selection import in_float32
from keras_attn.ops.occurrences import occurrences
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class EncoderRepetitionPenalty(LogitProcessor):
    """Favours tokens of the source, or of the prompt of a language model.

    Their logits `x` become `x / penalty` if negative, and `x * penalty` otherwise, which penalises all other tokens.
    Source and target must share a vocabulary.

    Args:
        penalty: A number; above 1 it favours tokens of the source, below 1 it penalises them.

    Raises:
        ValueError: If `penalty` is not a positive number.

    Reference:
        `EncoderRepetitionPenaltyLogitsProcessor` of Hugging Face.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import EncoderRepetitionPenalty, History
    >>> ids, source = np.array([[0]]), np.array([[1, 2]])
    >>> history = History(ids, ids >= 0, vocabulary_size=4, max_length=7, end_ids=(3,), source=source)
    >>> processor = EncoderRepetitionPenalty(2.0)
    >>> np.asarray(processor(np.array([[8.0, 8.0, -8.0, -8.0]], "float32"), processor.start(history), 0))
    array([[ 8., 16., -4., -8.]], dtype=float32)
    """

    needs_source_ids = True

    penalty: float

    def __post_init__(self):
        check_positive_number(penalty=self.penalty)

    def graph_numbers(self) -> dict[str, float]:
        return {"penalty": in_float32(1 / self.penalty)}

    def start(self, history: History) -> tuple[Tensor, ...]:
        return (occurrences(history.source, history.source_mask, history.vocabulary_size),)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        return penalised(logits, state[0], self.number("penalty"))
