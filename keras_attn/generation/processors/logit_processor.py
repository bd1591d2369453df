"""What changes the logits of the next token before a strategy chooses from them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras import ops

from keras_attn.generation.settings import Settings
from keras_attn.ops.masked_softmax import MASKED_LOGIT
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


# Below every logit, whatever its size, and finite: what a runtime computes in the branch that it does not select must
# not be infinity or NaN.
BANNED = MASKED_LOGIT


@dataclasses.dataclass(frozen=True)
class History:
    """What stands before the first generated token.

    Args:
        ids: int32 `(R, P)`: the prompt of a language model, padded behind; the start token of an encoder-decoder. `R`
            counts rows, or beams.
        mask: bool `(R, P)`, False at padding.
        vocabulary_size: number of logits `V`.
        max_length: number of tokens to generate at most, an int or int32 scalar.
        end_ids: tuple of the tokens that end a row.
        capacity: an int that `max_length` does not exceed; `max_length` itself where None.
        source: int32 `(R, S)`, what the model was given, a source or a prompt; `ids` where None.
        source_mask: bool `(R, S)`, False at padding; all True where None.
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
    """Base of the processors; a kind is a frozen dataclass that overrides what it needs of the four methods.

    All is written in `keras.ops` without loops, so that it runs in every exported artefact. What a processor remembers
    is its state: a tuple of tensors with the rows on their first axis, which beam search reorders with its beams. A
    field is a constant of the graph, and another value takes another graph, unless `graph_numbers` lists it.
    """

    # Whether it makes no sense for rows that nothing ends.
    needs_end = False
    # Whether it reads the token ids of prompts or sources.
    needs_source_ids = False

    def validate(self, config: GenerationConfig, vocabulary_size: int) -> None:
        """Raises a ValueError where the processor does not fit a `GenerationConfig` or the vocabulary."""

    def start(self, history: History) -> tuple[Tensor, ...]:
        """The state before the first token, from a `History`."""
        return ()

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        """The changed logits; a banned token has `BANNED`, and keeps it, see `selection.unless_banned`.

        Args:
            logits: float32 `(R, V)`: logits, or log-probabilities in a beam search; finite, and above `BANNED`
                unless a processor before has banned them.
            state: of the tokens so far.
            step: int32 scalar, the number of tokens generated so far.
        """
        return logits

    def update(self, state: tuple[Tensor, ...], tokens: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        """The state with `tokens`, int32 `(R,)`, chosen as those of `step`."""
        return state
