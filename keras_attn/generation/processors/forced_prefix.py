"""Forced prefix of the output."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_ids, check_vocabulary
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import forced_logits, is_one_of
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class ForcedPrefix(LogitProcessor):
    """Forces the output to start with `ids`, which may be a single forced start token.

    A forced token has logit and log-probability 0; all other tokens are banned. An entry that is a tuple leaves the
    model a choice, such as the language that Whisper hears: its tokens keep their logits, all others are banned.

    Args:
        ids: Tuple of tokens, and of tuples of tokens to choose from.

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

    ids: tuple[int | tuple[int, ...], ...]

    def __post_init__(self):
        check_ids(ids=_flat(self.ids))

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        check_vocabulary(vocabulary_size, ids=_flat(self.ids))
        if len(self.ids) > config.max_length:
            raise ValueError(
                f"`ids` of ForcedPrefix must not be longer than `max_length`={config.max_length}. "
                f"Received: {len(self.ids)} ids"
            )
        if set(_flat(self.ids[:-1])) & set(config.end_ids):
            raise ValueError(
                f"`ids` of ForcedPrefix must not continue after an end token, {config.end_ids}. "
                f"Received: ids={self.ids}"
            )

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        count = len(self.ids)
        tokens = ops.convert_to_tensor([x[0] if isinstance(x, tuple) else x for x in self.ids], dtype="int32")
        forced = forced_logits(ops.take(tokens, ops.minimum(step, count - 1)), logits)
        forced = ops.where(ops.less(step, count), forced, logits)
        for i, choice in enumerate(self.ids):
            if isinstance(choice, tuple):
                chosen = ops.where(is_one_of(choice, logits.shape[-1]), logits, BANNED)
                forced = ops.where(ops.equal(step, i), chosen, forced)
        return forced


def _flat(ids):
    """All tokens, or `ids` itself if it is invalid."""
    if not isinstance(ids, tuple) or () in ids:
        return ids
    return tuple(token for x in ids for token in (x if isinstance(x, tuple) else (x,)))
