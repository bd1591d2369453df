"""No phrase twice."""

import dataclasses

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.ops.occurrences import occurrences
from keras_attn.ops.sums import add

# Neither is a token, nor equal to the other.
_FREE, _NONE = -1, -2


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class NoRepeatNGram(LogitProcessor):
    """Bans tokens that would complete an n-gram which the prompt or the generated tokens contain already.

    Args:
        size: number of tokens in an n-gram; 1 bans every token that has occurred.

    Raises:
        ValueError: `size` is not a positive integer.

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

    def start(self, history):
        """The tokens of each row, then free slots; how many of them the prompt has; the last `size - 1` tokens."""
        ids, lengths = ops.cast(history.ids, "int32"), ops.sum(ops.cast(history.mask, "int32"), axis=1, keepdims=True)
        tokens = ops.where(history.mask, ids, _FREE)
        free = ops.zeros_like(ids[:, :1]) + ops.full((1, max(history.capacity, self.size)), _FREE, dtype="int32")
        tokens = ops.concatenate([tokens, free], axis=1)
        if self.size == 1:
            return tokens, lengths
        slots = ops.expand_dims(ops.arange(ops.shape(ids)[1], dtype="int32"), 0)
        last = []
        for back in range(self.size - 1, 0, -1):
            here = ops.cast(ops.equal(slots, ops.subtract(lengths, back)), "int32")
            last.append(ops.sum(here * (ids - _NONE), axis=1, keepdims=True) + _NONE)
        return tokens, lengths, ops.concatenate(last, axis=1)

    def __call__(self, logits, state, step):
        tokens, _, *last = state
        following = tokens[:, self.size - 1 :]
        repeats = ops.greater_equal(following, 0)
        for i in range(self.size - 1):
            same = ops.equal(tokens[:, i : i + 1 - self.size], last[0][:, i : i + 1])
            repeats = ops.logical_and(repeats, same)
        return ops.where(occurrences(following, repeats, logits.shape[-1]), BANNED, logits)

    def update(self, state, tokens, step):
        held, lengths, *last = state
        tokens = ops.expand_dims(tokens, 1)
        slots = ops.expand_dims(ops.arange(ops.shape(held)[1], dtype="int32"), 0)
        held = ops.where(ops.equal(slots, add(lengths, step)), tokens, held)
        return held, lengths, *(ops.concatenate([x[:, 1:], tokens], axis=1) for x in last)
