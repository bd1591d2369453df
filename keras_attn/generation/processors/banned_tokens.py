"""Tokens that never come."""

import dataclasses

import keras
from keras import ops

from keras_attn.argument_checks import check_ids, check_vocabulary
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import is_one_of


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class BannedTokens(LogitProcessor):
    """Bans tokens throughout.

    Args:
        ids: tuple of the banned tokens.

    Raises:
        ValueError: `ids` is not as described, not in the vocabulary, or all of it.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, BannedTokens
    >>> np.asarray(BannedTokens((0, 2))(np.ones((1, 4), "float32"), (), 0)) > BANNED
    array([[False, True, False, True]])
    """

    ids: tuple

    def __post_init__(self):
        check_ids(ids=self.ids)

    def validate(self, config, vocabulary_size):
        check_vocabulary(vocabulary_size, ids=self.ids)
        if len(set(self.ids)) == vocabulary_size:
            raise ValueError(f"`ids` of BannedTokens must leave a token. Received: all {vocabulary_size} of them")

    def __call__(self, logits, state, step):
        return ops.where(is_one_of(self.ids, logits.shape[-1]), BANNED, logits)
