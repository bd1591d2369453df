"""Banned token sequences."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_vocabulary
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.recent import append_token, last_tokens
from keras_attn.generation.processors.sequence_matching import check_sequences, completions, context_length
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class BannedSequences(LogitProcessor):
    """Bans the last token of a sequence if its other tokens directly precede it, in the prompt or generated.

    Args:
        sequences: Tuple of tuples of tokens. A sequence of one token is always banned.

    Raises:
        ValueError: If `sequences` is invalid, not in the vocabulary, or bans the whole vocabulary.

    Reference:
        `NoBadWordsLogitsProcessor` of Hugging Face.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import BANNED, BannedSequences, History
    >>> ids = np.array([[1, 2]])
    >>> history = History(ids, ids > 0, vocabulary_size=4, max_length=7, end_ids=(3,))
    >>> processor = BannedSequences(((1, 2, 1), (3, 0)))
    >>> np.asarray(processor(np.zeros((1, 4), "float32"), processor.start(history), 0)) > BANNED
    array([[ True, False, True, True]])
    """

    sequences: tuple[tuple[int, ...], ...]

    def __post_init__(self):
        check_sequences(self.sequences)

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        check_vocabulary(vocabulary_size, sequences=[token for sequence in self.sequences for token in sequence])
        if len({sequence for sequence in self.sequences if len(sequence) == 1}) == vocabulary_size:
            raise ValueError(
                f"`sequences` of BannedSequences must not ban every token. Received: all {vocabulary_size} tokens"
            )

    def start(self, history: History) -> tuple[Tensor, ...]:
        return (last_tokens(history.ids, history.mask, context_length(self.sequences)),)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        found = completions(self.sequences, [1] * len(self.sequences), state[0], logits.shape[-1])
        return ops.where(ops.greater(found, 0.5), BANNED, logits)

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        return (append_token(state[0], tokens),)
