"""Forced end token."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import forced_logits
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class ForcedEnd(LogitProcessor):
    """Forces the last token, at step `max_length - 1`, to be the end token, or the first of several.

    A forced token has logit and log-probability 0; all other tokens are banned.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import ForcedEnd, History
    >>> ids, mask = np.array([[2]]), np.array([[True]])
    >>> history = History(ids, mask, vocabulary_size=4, max_length=7, end_ids=(3,))
    >>> processor = ForcedEnd()
    >>> logits = np.array([[0.4, 0.3, 0.2, 0.1]], "float32")
    >>> [int(np.argmax(processor(logits, processor.start(history), step))) for step in (5, 6)]
    [0, 3]
    """

    needs_end = True

    def start(self, history: History) -> tuple[Tensor, ...]:
        rows = ops.zeros_like(history.ids[:, :1])
        return add(rows, history.end_ids[0]), add(rows, history.max_length - 1)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        end, last = state
        return ops.where(ops.equal(last, step), forced_logits(end, logits), logits)
