"""Biases of token sequences."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras

from keras_attn.argument_checks import check_finite, check_vocabulary
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.recent import append_token, last_tokens
from keras_attn.generation.processors.selection import in_float32, unless_banned
from keras_attn.generation.processors.sequence_matching import check_sequences, completions, context_length
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.processors.logit_processor import History


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class SequenceBias(LogitProcessor):
    """Adds a bias to the logit of the last token of a sequence if its other tokens directly precede it.

    The preceding tokens may be in the prompt or generated. Biases of sequences with the same last token add up.

    Args:
        sequences: Tuple of tuples of tokens. The bias of a sequence of one token always applies.
        biases: Tuple of one number per sequence; positive values make its last token more likely.

    Raises:
        ValueError: If an argument is invalid, or `sequences` are not in the vocabulary.

    Reference:
        `SequenceBiasLogitsProcessor` of Hugging Face.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import History, SequenceBias
    >>> ids = np.array([[1, 2]])
    >>> history = History(ids, ids > 0, vocabulary_size=4, max_length=7, end_ids=(3,))
    >>> processor = SequenceBias(((1, 2, 1), (3, 0), (3,)), (2.0, 5.0, -1.0))
    >>> np.asarray(processor(np.zeros((1, 4), "float32"), processor.start(history), 0))
    array([[ 0., 2., 0., -1.]], dtype=float32)
    """

    sequences: tuple[tuple[int, ...], ...]
    biases: tuple[float, ...]

    def __post_init__(self):
        check_sequences(self.sequences)
        if not isinstance(self.biases, tuple) or len(self.biases) != len(self.sequences):
            raise ValueError(
                f"`biases` must be a tuple of one number for each of the {len(self.sequences)} sequences. "
                f"Received: biases={self.biases!r}"
            )
        for bias in self.biases:
            check_finite(biases=bias)

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        check_vocabulary(vocabulary_size, sequences=[token for sequence in self.sequences for token in sequence])

    def start(self, history: History) -> tuple[Tensor, ...]:
        return (last_tokens(history.ids, history.mask, context_length(self.sequences)),)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        biases = [in_float32(bias) for bias in self.biases]
        return unless_banned(logits, logits + completions(self.sequences, biases, state[0], logits.shape[-1]))

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        return (append_token(state[0], tokens),)
