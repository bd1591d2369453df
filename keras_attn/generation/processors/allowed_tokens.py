"""Allowed tokens."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_ids, check_vocabulary
from keras_attn.generation.processors.banned_tokens import BannedTokens
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import is_one_of
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class AllowedTokens(LogitProcessor):
    """Bans all tokens except `ids`. Without an end token among them, every row has length `max_length`.

    Args:
        ids: Tuple of the allowed tokens.

    Raises:
        ValueError: If `ids` is invalid, not in the vocabulary, or entirely banned by `BannedTokens` in the same config.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, AllowedTokens
    >>> np.asarray(AllowedTokens((0, 2))(np.ones((1, 4), "float32"), (), 0)) > BANNED
    array([[ True, False, True, False]])
    """

    ids: tuple[int, ...]

    def __post_init__(self):
        check_ids(ids=self.ids)

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        check_vocabulary(vocabulary_size, ids=self.ids)
        always = [x for x in config.processors if isinstance(x, BannedTokens) and x.step is None]
        banned = {token for x in always for token in x.ids}
        if banned.issuperset(self.ids):
            raise ValueError(
                f"`ids` of AllowedTokens must not all be banned by BannedTokens. Received: ids={reprlib.repr(self.ids)}"
            )

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        return ops.where(is_one_of(self.ids, logits.shape[-1]), logits, BANNED)
