"""Stop strings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import keras
import numpy as np
from keras import ops

from keras_attn.generation.automata.automaton import TokenAutomaton
from keras_attn.generation.processors.logit_processor import LogitProcessor
from keras_attn.generation.processors.selection import forced_logits
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.processors.logit_processor import History
    from keras_attn.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class StopStrings(LogitProcessor):
    """Forces the end token once the generated text contains one of several strings.

    As in Hugging Face, the text includes the stop string and the rest of its last token; `text.partition(stop)[0]` is
    the output of vLLM and OpenAI. A string may start and end within tokens. The prompt is not searched. The end token
    counts towards `max_length`, and its log-probability is 0. This should be the last of `processors`.

    Args:
        automaton: `TokenAutomaton.containing(strings, pieces)`; `StopStrings.of(tokenizer, strings)` creates both.

    Raises:
        ValueError: If `automaton` is not a `TokenAutomaton`, or has a larger vocabulary than the model.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import History, StopStrings, TokenAutomaton
    >>> processor = StopStrings(TokenAutomaton.containing(("ab",), ["", "xa", "by", ""]))
    >>> ids = np.array([[1]])
    >>> state = processor.start(History(ids, ids > 0, vocabulary_size=4, max_length=7, end_ids=(3,)))
    >>> logits = np.array([[0.4, 0.3, 0.2, 0.1]], "float32")
    >>> for step, token in enumerate((1, 2)):
    ...     state = processor.update(state, np.array([token], "int32"), step)
    ...     print(int(np.argmax(processor(logits, state, step + 1))))
    0
    3
    """

    automaton: TokenAutomaton

    needs_end = True

    def __post_init__(self):
        if not isinstance(self.automaton, TokenAutomaton):
            raise ValueError(
                "`automaton` must be a TokenAutomaton; StopStrings.of(tokenizer, strings) creates one. "
                f"Received: automaton={self.automaton!r}"
            )

    @classmethod
    def of(cls, tokenizer: Tokenizer, strings: Sequence[str]) -> Self:
        """Creates the processor for a tokenizer of `keras_attn.text` and a tuple of strings."""
        anywhere, _ = tokenizer.readings()
        return cls(TokenAutomaton.containing(strings, anywhere))

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        if self.automaton.vocabulary_size > vocabulary_size:
            raise ValueError(
                f"`automaton` must be over the model's vocabulary of {vocabulary_size}. Received: {self.automaton!r}"
            )

    def start(self, history: History) -> tuple[Tensor, ...]:
        row = ops.zeros_like(ops.cast(history.ids, "int32")[:, :1])
        return row, add(row, history.end_ids[0])

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        row, end = state
        stopped = ops.take(ops.convert_to_tensor(self.automaton.accepting), row, axis=0)
        return ops.where(stopped, forced_logits(end, logits), logits)

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        row, end = state
        automaton = self.automaton
        # Class 0 is the empty text, as are tokens without a piece.
        classes = ops.convert_to_tensor(np.append(automaton.token_classes, np.int32(0)))
        classes = ops.take(classes, ops.minimum(ops.expand_dims(tokens, 1), automaton.vocabulary_size), axis=0)
        table = automaton.transitions
        table = np.where(table < 0, np.arange(len(table), dtype=np.int32)[:, None], table)
        places = add(ops.multiply(row, table.shape[1]), classes)
        return ops.take(ops.convert_to_tensor(table.reshape(-1)), places, axis=0), end
