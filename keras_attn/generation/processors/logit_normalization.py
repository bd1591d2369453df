"""Normalisation of logits."""

from __future__ import annotations

import dataclasses

import keras

from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import log_probabilities
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class LogitNormalization(LogitProcessor):
    """Replaces the logits by `log_softmax(logits)`; banned tokens stay banned.

    In beam search, which ranks sequences by the processed log-probabilities, the tokens that earlier processors left
    then have a total probability of 1, as in Marian.

    Reference:
        `LogitNormalization` of Hugging Face.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BannedTokens, LogitNormalization
    >>> logits = BannedTokens((2,))(np.log([[0.2, 0.2, 0.6]]), (), 0)
    >>> np.exp(np.asarray(LogitNormalization()(logits, (), 0))).round(2)
    array([[0.5, 0.5, 0. ]])
    """

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        return log_probabilities(logits)
