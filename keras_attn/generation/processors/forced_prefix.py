"""Forced prefix of the output."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_ids, check_vocabulary
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import forced_logits
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class ForcedPrefix(LogitProcessor):
    """Forces the output to start with `ids`, which may be a single forced start token.

    A forced token has logit and log-probability 0; all other tokens are banned.

    Args:
        ids: Tuple of tokens.

    Raises:
        ValueError: If `ids` is invalid, not in the vocabulary, longer than `max_length`, or continues after an end
            token.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import ForcedPrefix
    >>> processor = ForcedPrefix((4, 1))
    >>> logits = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]], "float32")
    >>> [int(np.argmax(processor(logits, (), step))) for step in range(2)]
    [4, 1]
    >>> np.array_equal(processor(logits, (), 2), logits)
    True
    """

    ids: tuple[int, ...]

    def __post_init__(self):
        check_ids(ids=self.ids)

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        check_vocabulary(vocabulary_size, ids=self.ids)
        if len(self.ids) > config.max_length:
            raise ValueError(
                f"`ids` of ForcedPrefix must not be longer than `max_length`={config.max_length}. "
                f"Received: {len(self.ids)} ids"
            )
        if set(self.ids[:-1]) & set(config.end_ids):
            raise ValueError(
                f"`ids` of ForcedPrefix must not continue after an end token, {config.end_ids}. "
                f"Received: ids={self.ids}"
            )

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        count = len(self.ids)
        token = ops.take(ops.convert_to_tensor(self.ids, dtype="int32"), ops.minimum(step, count - 1))
        return ops.where(ops.less(step, count), forced_logits(token, logits), logits)
