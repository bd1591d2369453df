"""Drafts that are copied from what stands there already."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.settings import Settings
from keras_attn.ops.arrays import add
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding, Strategy


# Neither is a token, nor equal to the other.
_FREE, _NONE = -1, -2


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class PromptLookup(Settings):
    """A draft for `SpeculativeDecoding`, without a model: what followed when the last tokens occurred before.

    Looks through the inputs, a prompt or a source, and the tokens generated so far, for the place whose last tokens
    agree with most of the row's last `ngram_size`, the latest of several. What follows there is proposed, over and
    over where it is short.

    Args:
        ngram_size: how many last tokens are compared at most.

    Raises:
        ValueError: `ngram_size` is not a positive integer.

    Reference:
        [Saxena, 2023](https://github.com/apoorvumang/prompt-lookup-decoding)

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import PromptLookup
    >>> context, lengths = np.array([[5, 6, 7, 8, 5, 6, -1]]), np.array([[6]])
    >>> np.asarray(PromptLookup(2).proposals(context, lengths, count=5))
    array([[7, 8, 5, 6, 7]], dtype=int32)
    """

    ngram_size: int = 3

    def __post_init__(self):
        check_positive(ngram_size=self.ngram_size)

    def start(self, strategy: Strategy, decoding: Decoding, ids: Tensor, mask: Tensor | None) -> tuple[Nest, Nest]:
        """`(fixed, state)` of a generation by `strategy`: the inputs and their lengths; nothing changes."""
        real = decoding.model.padding_mask(ids, mask)
        lengths = ops.sum(ops.cast(real, "int32"), axis=1, keepdims=True)
        return (ops.where(real, ids, _FREE), lengths), ()

    def propose(self, strategy: Strategy, decoding: Decoding, fixed: Nest, state: Nest) -> tuple[Tensor, Nest]:
        """`(proposals, state)`: int32 `(B, num_tokens + 1)`, the last of which is not used."""
        (known, lengths), step = fixed.extra, state.step
        size = ops.shape(known)[1] + decoding.config.max_length
        index = ops.subtract(ops.expand_dims(ops.arange(size, dtype="int32"), 0), lengths)
        generated = ops.clip(index, 0, decoding.config.max_length - 1)
        generated = ops.take_along_axis(state.tokens, generated, axis=1)
        generated = ops.where(ops.less(index, step), generated, _FREE)
        known = ops.concatenate([known, ops.full_like(state.tokens, _FREE)], axis=1)
        context = ops.where(ops.less(index, 0), known, generated)
        proposals = self.proposals(context, add(lengths, step), strategy.num_tokens + 1)
        # A source may have tokens of a larger vocabulary.
        return ops.clip(proposals, 0, decoding.vocabulary_size - 1), state.extra.draft

    def rewind(self, state: Nest, count: Tensor) -> Nest:
        """The state without the last `count` proposals."""
        return state

    def proposals(self, context: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Continuations, int32 `(B, count)`.

        Args:
            context: int32 `(B, M)`, tokens, and -1 behind.
            lengths: int32 `(B, 1)`, how many tokens there are.
            count: int.
        """
        context, lengths = (ops.convert_to_tensor(x, dtype="int32") for x in (context, lengths))
        size, reach = ops.shape(context)[1], self.ngram_size
        front = ops.zeros_like(context[:, :1]) + ops.full((1, reach), _NONE, dtype="int32")
        shifted = ops.concatenate([front, context], axis=1)
        follower = ops.expand_dims(ops.arange(size, dtype="int32"), 0)
        agrees, agreeing = None, 0
        for back in range(1, reach + 1):
            last = ops.take_along_axis(context, ops.clip(ops.subtract(lengths, back), 0, size - 1), axis=1)
            same = ops.equal(shifted[:, reach - back : -back], last)
            agrees = same if agrees is None else ops.logical_and(agrees, same)
            agreeing = add(agreeing, ops.cast(agrees, "int32"))
        # The longest agreement, and the latest of these; the end itself is no candidate.
        rank = add(ops.multiply(agreeing, size + 1), follower)
        rank = ops.where(ops.logical_and(follower > 0, ops.less(follower, lengths)), rank, -1)
        place = ops.cast(ops.expand_dims(ops.argmax(rank, axis=1), 1), "int32")
        period = ops.maximum(ops.subtract(lengths, place), 1)
        offsets = ops.mod(ops.expand_dims(ops.arange(count, dtype="int32"), 0), period)
        return ops.take_along_axis(context, ops.clip(add(place, offsets), 0, size - 1), axis=1)
