"""No repeated n-grams."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.recent import FREE, append_token, last_tokens
from keras_attn.ops.arrays import add, axis_size
from keras_attn.ops.occurrences import occurrences
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class NoRepeatNGram(LogitProcessor):
    """Bans tokens that would complete an n-gram that already occurs in the prompt or the generated tokens.

    Args:
        size: Number of tokens in an n-gram; 1 bans every token that has occurred.

    Raises:
        ValueError: If `size` is not a positive integer.

    Reference:
        [A Deep Reinforced Model for Abstractive Summarization](https://arxiv.org/abs/1705.04304), Paulus et al., 2017.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, History, NoRepeatNGram
    >>> ids, mask = np.array([[1, 2, 1, 0]]), np.array([[True, True, True, False]])
    >>> history = History(ids, mask, vocabulary_size=4, max_length=7, end_ids=(3,))
    >>> processor = NoRepeatNGram(2)
    >>> np.asarray(processor(np.zeros((1, 4), "float32"), processor.start(history), 0)) > BANNED
    array([[ True, True, False, True]])
    """

    size: int

    def __post_init__(self):
        check_positive(size=self.size)

    def start(self, history: History) -> tuple[Tensor, ...]:
        """The tokens of each row, followed by free slots; the length of the prompt; the last `size - 1` tokens."""
        ids, lengths = ops.cast(history.ids, "int32"), ops.sum(ops.cast(history.mask, "int32"), axis=1, keepdims=True)
        return with_free_slots(ids, history.mask, max(history.capacity, self.size)), lengths, *self._last(history)

    def _last(self, history):
        """The last `size - 1` tokens as a list of one tensor, or an empty list."""
        return [last_tokens(history.ids, history.mask, self.size - 1)] if self.size > 1 else []

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        tokens, _, *last = state
        following = tokens[:, self.size - 1 :]
        repeats = ops.greater_equal(following, 0)
        for i in range(self.size - 1):
            same = ops.equal(tokens[:, i : i + 1 - self.size], last[0][:, i : i + 1])
            repeats = ops.logical_and(repeats, same)
        return ops.where(occurrences(following, repeats, logits.shape[-1]), BANNED, logits)

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        row_tokens, lengths, *last = state
        tokens = ops.expand_dims(tokens, 1)
        slots = ops.expand_dims(ops.arange(axis_size(row_tokens, 1), dtype="int32"), 0)
        row_tokens = ops.where(ops.equal(slots, add(lengths, step)), tokens, row_tokens)
        return row_tokens, lengths, *(append_token(x, ops.squeeze(tokens, 1)) for x in last)


def with_free_slots(ids, mask, count):
    """Appends `count` free slots to tokens `(R, P)`; these are also `FREE` if `mask` is False."""
    tokens = ops.where(mask, ids, FREE)
    free = ops.zeros_like(tokens[:, :1]) + ops.full((1, count), FREE, dtype="int32")
    return ops.concatenate([tokens, free], axis=1)
