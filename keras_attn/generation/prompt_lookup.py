"""Drafts copied from earlier tokens."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.settings import Settings
from keras_attn.ops.arrays import add, axis_size
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding, Strategy


# Fill values after and before a context: neither is a token, nor equal to the other.
_EMPTY, _BEFORE = -1, -2


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class PromptLookup(Settings):
    """A draft for `SpeculativeDecoding` without a model: proposes the tokens that followed an earlier occurrence.

    Searches the inputs, a prompt or a source, and the tokens generated so far for the longest match with the row's last
    tokens, up to `ngram_size`, the latest of several. The tokens after the match are proposed, and repeated if there
    are too few.

    Args:
        ngram_size: Maximum number of last tokens to match.

    Raises:
        ValueError: If `ngram_size` is not a positive integer.

    Reference:
        [Prompt Lookup Decoding](https://github.com/apoorvumang/prompt-lookup-decoding), Saxena, 2023.

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

    def start(self, strategy: Strategy, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[Nest, Nest]:
        """Returns `(fixed, state)`: the inputs and their lengths, and an empty state."""
        real = decoding.model.padding_mask(inputs, mask)
        lengths = ops.sum(ops.cast(real, "int32"), axis=1, keepdims=True)
        return (ops.where(real, inputs, _EMPTY), lengths), ()

    def propose(self, strategy: Strategy, decoding: Decoding, fixed: Nest, state: Nest) -> tuple[Tensor, Nest]:
        """Returns `(proposals, state)`: int32 `(B, num_tokens + 1)`, the last of which is not used."""
        (known, lengths), step = fixed.extra, state.step
        size = axis_size(known, 1) + decoding.config.max_length
        index = ops.subtract(ops.expand_dims(ops.arange(size, dtype="int32"), 0), lengths)
        generated = ops.clip(index, 0, decoding.config.max_length - 1)
        generated = ops.take_along_axis(state.tokens, generated, axis=1)
        generated = ops.where(ops.less(index, step), generated, _EMPTY)
        known = ops.concatenate([known, ops.full_like(state.tokens, _EMPTY)], axis=1)
        context = ops.where(ops.less(index, 0), known, generated)
        proposals = self.proposals(context, add(lengths, step), strategy.num_tokens + 1)
        # A source may have a larger vocabulary.
        return ops.clip(proposals, 0, decoding.vocabulary_size - 1), state.extra.draft

    def rewind(self, state: Nest, count: Tensor) -> Nest:
        """The state without the last `count` proposals."""
        return state

    def proposals(self, context: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Continuations, int32 `(B, count)`.

        Args:
            context: Int32 `(B, M)`, token ids, right-padded with -1.
            lengths: Int32 `(B, 1)`, the number of tokens per row.
            count: Number of proposals per row.
        """
        context, lengths = (ops.convert_to_tensor(x, dtype="int32") for x in (context, lengths))
        size, width = axis_size(context, 1), self.ngram_size
        front = ops.zeros_like(context[:, :1]) + ops.full((1, width), _BEFORE, dtype="int32")
        shifted = ops.concatenate([front, context], axis=1)
        follower = ops.expand_dims(ops.arange(size, dtype="int32"), 0)
        matches, match_length = None, 0
        for back in range(1, width + 1):
            last = ops.take_along_axis(context, ops.clip(ops.subtract(lengths, back), 0, size - 1), axis=1)
            same = ops.equal(shifted[:, width - back : -back], last)
            matches = same if matches is None else ops.logical_and(matches, same)
            match_length = add(match_length, ops.cast(matches, "int32"))
        # The longest match, the latest of several; the end itself is no candidate.
        rank = add(ops.multiply(match_length, size + 1), follower)
        rank = ops.where(ops.logical_and(follower > 0, ops.less(follower, lengths)), rank, -1)
        place = ops.cast(ops.expand_dims(ops.argmax(rank, axis=1), 1), "int32")
        period = ops.maximum(ops.subtract(lengths, place), 1)
        offsets = ops.mod(ops.expand_dims(ops.arange(count, dtype="int32"), 0), period)
        return ops.take_along_axis(context, ops.clip(add(place, offsets), 0, size - 1), axis=1)
