"""No n-grams of the source."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.generation.processors.no_repeat_ngram import NoRepeatNGram, with_free_slots
from keras_attn.generation.processors.recent import append_token
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class EncoderNoRepeatNGram(NoRepeatNGram):
    """Bans tokens that would complete an n-gram of the source, or of the prompt of a language model.

    Args:
        size: Number of tokens in an n-gram; 1 bans every token of the source.

    Raises:
        ValueError: If `size` is not a positive integer.

    Reference:
        [Recipes for building an open-domain chatbot](https://arxiv.org/abs/2004.13637), Roller et al., 2020.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, EncoderNoRepeatNGram, History
    >>> ids, source = np.array([[0, 1]]), np.array([[1, 2, 3]])
    >>> history = History(ids, ids >= 0, vocabulary_size=4, max_length=7, end_ids=(3,), source=source)
    >>> processor = EncoderNoRepeatNGram(2)
    >>> np.asarray(processor(np.zeros((1, 4), "float32"), processor.start(history), 0)) > BANNED
    array([[ True, True, False, True]])
    """

    needs_source_ids = True

    def start(self, history: History) -> tuple[Tensor, ...]:
        ids = ops.cast(history.source, "int32")
        tokens = with_free_slots(ids, history.source_mask, self.size)
        return tokens, ops.zeros_like(tokens[:, :1]), *self._last(history)

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        row_tokens, lengths, *last = state
        return row_tokens, lengths, *(append_token(x, tokens) for x in last)
