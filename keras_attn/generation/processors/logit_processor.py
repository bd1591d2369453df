"""Base class of logit processors."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras import ops

from keras_attn.generation.settings import Settings
from keras_attn.ops.masked_softmax import MASKED_LOGIT
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


# Below every logit, but finite: values in branches that a runtime does not select must not be infinite or NaN.
BANNED = MASKED_LOGIT


@dataclasses.dataclass(frozen=True)
class History:
    """The inputs of generation, for `LogitProcessor.start`.

    Args:
        ids: Int32 `(R, P)`: the right-padded prompt of a language model, or the start token of an encoder-decoder. `R`
            is the number of rows or beams.
        mask: Bool `(R, P)`, False at padding.
        vocabulary_size: Number of logits `V`.
        max_length: Maximum number of generated tokens, an integer or int32 scalar.
        end_ids: Tuple of the tokens that end a row.
        capacity: Static upper bound of `max_length`, an integer. Defaults to `max_length`.
        source: Int32 `(R, S)`, the source or prompt. Defaults to `ids`.
        source_mask: Bool `(R, S)`, False at padding. Defaults to all True.
    """

    ids: Tensor
    mask: Tensor
    vocabulary_size: int
    max_length: Tensor
    end_ids: tuple[int, ...]
    capacity: int | None = None
    source: Tensor | None = None
    source_mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.capacity is None:
            object.__setattr__(self, "capacity", self.max_length)
        if self.source is None:
            object.__setattr__(self, "source", self.ids)
            object.__setattr__(self, "source_mask", self.mask)
        if self.source_mask is None:
            object.__setattr__(self, "source_mask", ops.ones_like(self.source, dtype="bool"))


@dataclasses.dataclass(frozen=True)
class LogitProcessor(Settings):
    """Base class of logit processors, which change the logits before a strategy selects the next token.

    A subclass is a frozen dataclass that overrides any of the four methods, in `keras.ops` without loops, so that it
    runs in every exported artefact. Its state is a tuple of tensors with rows on the first axis, which beam search
    reorders with the beams. Fields are constants of the graph, and a different value requires another graph, unless
    `graph_numbers` lists the field.
    """

    # Whether the processor requires an end token.
    needs_end = False
    # Whether it reads the token ids of prompts or sources.
    needs_source_ids = False

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        """Raises a ValueError if the processor does not fit a `GenerationConfig` or the vocabulary."""

    def start(self, history: History) -> tuple[Tensor, ...]:
        """The initial state, from a `History`."""
        return ()

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        """Returns the changed logits.

        Banned tokens have the logit `BANNED` and must keep it, see `selection.unless_banned`.

        Args:
            logits: Float32 `(R, V)`: logits, or log-probabilities in beam search; finite, and above `BANNED` unless
                banned by an earlier processor.
            state: The state after the tokens so far.
            step: Int32 scalar, the number of tokens generated so far.
        """
        return logits

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        """The state after `tokens`, int32 `(R,)`, were selected at `step`."""
        return state
