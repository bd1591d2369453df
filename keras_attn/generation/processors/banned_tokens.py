"""Banned tokens."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_ids, check_vocabulary
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import is_one_of
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class BannedTokens(LogitProcessor):
    """Bans tokens, at every step or at one.

    Args:
        ids: Tuple of the banned tokens.
        step: The only step at which they are banned, the number of tokens generated before. None means every step.

    Raises:
        ValueError: If `ids` is invalid, not in the vocabulary, or bans the whole vocabulary, or `step` is no
            non-negative integer.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, BannedTokens
    >>> np.asarray(BannedTokens((0, 2))(np.ones((1, 4), "float32"), (), 0)) > BANNED
    array([[False, True, False, True]])
    """

    ids: tuple[int, ...]
    step: int | None = None

    def __post_init__(self):
        check_ids(ids=self.ids)
        check_count(step=0 if self.step is None else self.step)

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        check_vocabulary(vocabulary_size, ids=self.ids)
        if len(set(self.ids)) == vocabulary_size:
            raise ValueError(f"`ids` of BannedTokens must not ban every token. Received: all {vocabulary_size} tokens")

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        banned = is_one_of(self.ids, logits.shape[-1])
        if self.step is not None:
            banned = ops.logical_and(banned, ops.equal(step, self.step))
        return ops.where(banned, BANNED, logits)
