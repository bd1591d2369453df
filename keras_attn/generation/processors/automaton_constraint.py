"""Constrained decoding with an automaton."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_attn.generation.automata.automaton import TokenAutomaton
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import end_tokens, is_end
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.processors.logit_processor import History


# Distance of a state from which no accepting state can be reached.
UNREACHABLE = 1 << 30


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class AutomatonConstraint(LogitProcessor):
    """Constrains the output to sequences that a `TokenAutomaton` accepts, within `max_length`.

    A token is allowed if it leads to a state from which the shortest path to an accepting state, plus the end token,
    fits into the remaining tokens. End tokens are allowed in accepting states. A row that has left the automaton, after
    its end or by a forced token, can only end.

    Args:
        automaton: `TokenAutomaton` over the model's vocabulary. It constrains generated tokens only, not the prompt.

    Raises:
        ValueError: If `automaton` is not a `TokenAutomaton`, has another vocabulary, or allows an end token within a
            sequence, or if `max_length` is too small for its shortest sequence and the end token.

    Reference:
        [Willard and Louf, 2023](https://arxiv.org/abs/2307.09702).

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import AutomatonConstraint, GenerationConfig, TokenAutomaton
    >>> automaton = TokenAutomaton.from_regex("(ab)+", ["", "a", "b", ""])
    >>> config = GenerationConfig(max_length=5, end_id=3, processors=(AutomatonConstraint(automaton),))
    >>> config.validate(vocabulary_size=4)
    """

    automaton: TokenAutomaton

    needs_end = True

    def __post_init__(self):
        if not isinstance(self.automaton, TokenAutomaton):
            raise ValueError(
                "`automaton` must be a TokenAutomaton, such as from `from_regex`, `from_phrases` or, for a function of "
                f"the tokens so far, `from_function`. Received: automaton={self.automaton!r}"
            )

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        automaton = self.automaton
        if automaton.vocabulary_size > vocabulary_size:
            raise ValueError(
                f"`automaton` must be over the model's vocabulary of {vocabulary_size}. Received: {automaton!r}"
            )
        classes = self._classes(vocabulary_size)
        allowed = [x for x in config.end_ids if classes[x]]
        if allowed:
            raise ValueError(f"`automaton` must not allow end tokens within a sequence. Received: {allowed}")
        least = int(automaton.distances[0]) + 1
        if least > config.max_length:
            raise ValueError(
                f"`max_length` must be at least the length of the shortest output that `automaton` allows, {least} "
                f"tokens with the end token. Received: max_length={config.max_length}"
            )

    def start(self, history: History) -> tuple[Tensor, ...]:
        row = ops.zeros_like(ops.convert_to_tensor(history.ids, dtype="int32")[:, 0])
        return row, add(row, history.max_length), end_tokens(history)

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        row, limit, ends = state
        distances = np.append(self.automaton.distances, UNREACHABLE).astype(np.int32)
        targets = ops.take(ops.convert_to_tensor(self._table()), row, axis=0)
        left = ops.expand_dims(ops.subtract(limit, add(step, 2)), 1)
        fits = ops.less_equal(ops.take(ops.convert_to_tensor(distances), targets, axis=0), left)
        allowed = ops.take(fits, ops.convert_to_tensor(self._classes(logits.shape[-1])), axis=1)
        may_end = ops.take(ops.convert_to_tensor(np.append(self.automaton.accepting, True)), row, axis=0)
        ending = ops.logical_and(is_end(ends, logits.shape[-1]), ops.expand_dims(may_end, 1))
        allowed = ops.logical_or(allowed, ending)
        return ops.where(allowed, logits, BANNED)

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        row, limit, ends = state
        table = self._table()
        size = self.automaton.vocabulary_size
        classes = ops.convert_to_tensor(self._classes(size + 1))
        classes = ops.take(classes, ops.minimum(tokens, size), axis=0)
        places = add(ops.multiply(row, table.shape[1]), classes)
        return ops.take(ops.convert_to_tensor(table.reshape(-1)), places, axis=0), limit, ends

    def _classes(self, vocabulary_size):
        """The class of each token; class 0, which has no transitions, for tokens beyond the automaton's vocabulary."""
        classes = self.automaton.token_classes
        return np.pad(classes, (0, vocabulary_size - len(classes)))

    def _table(self):
        """The transition table with an additional dead state."""
        dead = len(self.automaton.accepting)
        table = np.vstack([self.automaton.transitions, np.full((1, self.automaton.transitions.shape[1]), dead)])
        return np.where(table < 0, dead, table).astype(np.int32)
