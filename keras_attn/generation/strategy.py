"""How tokens are chosen: what all strategies have in common, and the loop that runs them."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from keras import ops

from keras_attn.generation.generative_model import GenerativeModel, as_generative, reads_ids, vocabulary_size_of
from keras_attn.generation.processors import History
from keras_attn.generation.processors.selection import bounded
from keras_attn.generation.settings import Settings
from keras_attn.ops.target import current, tracing_for
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


@dataclasses.dataclass(frozen=True)
class Strategy(Settings):
    """Base of the strategies: frozen dataclasses of settings, whose methods are the parts of one loop.

    All parts take a `Decoding`, and are written in `keras.ops`: the same code runs eagerly, in a `tf.function` and in
    every exported artefact. `fixed` is what the loop reads and `state` what it changes: nests of tensors, here named
    tuples such as `SequenceContext` and `SequenceState`. The state of a strategy that streams has a `step`, which
    counts the tokens, `tokens` and `done`.
    """

    # How many positions behind the last token are tried.
    lookahead = 0

    # Further models that are asked.
    models = ()

    def validate(self, model: GenerativeModel, config: GenerationConfig) -> None:
        """Raises a ValueError where the strategy does not fit a model or the other settings."""

    def start(self, decoding: Decoding, ids: Tensor, mask: Tensor | None) -> tuple[Nest, Nest]:
        """`(fixed, state)` before the first token."""
        raise NotImplementedError

    def unfinished(self, decoding: Decoding, state: Nest) -> Tensor:
        """Whether any row may go on, a bool scalar."""
        raise NotImplementedError

    def advance(self, decoding: Decoding, fixed: Nest, state: Nest) -> Nest:
        """The state with a further token a row, or with several."""
        raise NotImplementedError

    def result(self, decoding: Decoding, fixed: Nest, state: Nest) -> dict[str, Tensor]:
        """Dict of `tokens`, int32 `(B, L)` or `(B, n, L)`, `scores` of that shape, and `sequence_scores`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Decoding:
    """One generation: a model, and how it is to generate.

    Args:
        model: a `GenerativeModel`.
        config: `GenerationConfig`; its ids that are None become those of the model's tokenizer, or the default ones.
        seed: int32 scalar that takes the place of the strategy's, where that draws.
        limit: int32 scalar, number of tokens to generate at most; where None, `config.max_length`, which gives the
            cache its size.
        vocabulary_size: number of tokens that may be generated; `vocabulary_size_of(model)` where None. With a number,
            the ids of `config` must be known.
    """

    model: GenerativeModel
    config: GenerationConfig
    seed: Tensor | None = None
    limit: Tensor | None = None
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        # Processors need no model.
        if hasattr(self.model, "prefill"):
            object.__setattr__(self, "model", as_generative(self.model))
        if self.vocabulary_size is None:
            from keras_attn.generation.prompts import settings_of

            object.__setattr__(self, "vocabulary_size", vocabulary_size_of(self.model))
            object.__setattr__(self, "config", settings_of(self.model, self.config))

    def decode(self, ids: Tensor, positions: Tensor, cache: Nest, memory: Nest) -> tuple[Tensor, Nest]:
        """As the model's `decode`, with the logits of the tokens that may be generated."""
        logits, cache = self.model.decode(ids, positions, cache, memory)
        return self._without_unused(logits), cache

    def logits(self, hidden: Tensor) -> Tensor:
        """As the model's `logits`, of the tokens that may be generated."""
        return self._without_unused(self.model.logits(hidden))

    def _without_unused(self, logits):
        return logits if logits.shape[-1] == self.vocabulary_size else logits[..., : self.vocabulary_size]

    @property
    def last_step(self) -> Tensor:
        """The number of tokens to generate at most."""
        return self.config.max_length if self.limit is None else self.limit

    def history(self, ids: Tensor, mask: Tensor | None) -> History:
        """The `History` of each row."""
        known, real = self.model.decoder_prompt(ids, mask, self.config.start_id)
        return History(
            ids=known,
            mask=real,
            vocabulary_size=self.vocabulary_size,
            max_length=self.last_step,
            capacity=self.config.max_length,
            end_ids=self.config.end_ids,
            source=ids if reads_ids(self.model) else None,
            source_mask=self.model.padding_mask(ids, mask) if reads_ids(self.model) else None,
        )

    def start_processors(self, history: History) -> tuple[Nest, ...]:
        """The states of all processors."""
        return tuple(processor.start(history) for processor in self.config.processors)

    def process(self, logits: Tensor, states: tuple[Nest, ...], step: Tensor) -> Tensor:
        """Logits `(R, V)` changed by all processors."""
        # A model's own minus infinity is no ban: a forced or the only allowed token may have it.
        logits = bounded(logits) if self.config.processors else logits
        for processor, state in zip(self.config.processors, states, strict=True):
            logits = processor(logits, state, step)
        return logits

    def update_processors(self, states: tuple[Nest, ...], tokens: Tensor, step: Tensor) -> tuple[Nest, ...]:
        """The states with `tokens`, int32 `(R,)`."""
        pairs = zip(self.config.processors, states, strict=True)
        return tuple(processor.update(state, tokens, step) for processor, state in pairs)

    def ends(self, tokens: Tensor) -> Tensor:
        """Which of `tokens` end a row."""
        found = ops.zeros_like(tokens, dtype="bool")
        for end in self.config.end_ids:
            found = ops.logical_or(found, ops.equal(tokens, end))
        return found


def run(decoding: Decoding, ids: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Generates: starts the strategy, loops until it has finished, and returns its result.

    Args:
        decoding: `Decoding`.
        ids: int32 `(B, S)`: sources, or prompts of a language model.
        mask: optional bool `(B, S)`; what the model makes of `ids` where None.
    """
    fixed, state = start(decoding, ids, mask)
    state = run_until(decoding, fixed, state)
    return decoding.config.chosen_strategy.result(decoding, fixed, state)


def start(decoding, ids, mask=None):
    """`(fixed, state)` of the strategy before the first token; arguments as of `run`."""
    with tracing_for(current(), cache_storage=decoding.config.cache), _packed_weights(decoding, "prompt"):
        return decoding.config.chosen_strategy.start(decoding, ids, mask)


def run_until(decoding, fixed, state, until=None):
    """The state once the strategy has finished, or at step `until`, an int32 scalar."""
    strategy = decoding.config.chosen_strategy

    def unfinished(state):
        more = strategy.unfinished(decoding, state)
        return more if until is None else ops.logical_and(more, state.step < until)

    with _packed_weights(decoding, "loop"):
        (state,) = ops.while_loop(
            unfinished,
            lambda state: (strategy.advance(decoding, fixed, state),),
            (state,),
            maximum_iterations=decoding.config.max_length,
        )
    return state


def _packed_weights(decoding, part):
    return decoding.model.packed_weights() if part in current().packs_weights else contextlib.nullcontext()


def index_of_largest(x):
    """`argmax` along the last axis, the first where several are equal: int32.

    Of integers: Keras' argmax of floats tells zeros apart by their sign bit, which TFLite has no operator for.
    """
    return ops.argmax(ops.cast(ops.equal(x, ops.max(x, axis=-1, keepdims=True)), "int32"), axis=-1)


def put(buffer, step, values):
    """`buffer` `(..., L)` with `values` `(...)` in column `step`."""
    here = ops.equal(ops.arange(ops.shape(buffer)[-1], dtype="int32"), step)
    return ops.where(here, ops.expand_dims(values, -1), buffer)


def pick(values, index):
    """`values[..., index]` for `values` `(R, V)` and int32 `(R,)`, by comparing."""
    here = ops.equal(ops.arange(values.shape[-1], dtype="int32"), ops.expand_dims(index, -1))
    return ops.sum(ops.where(here, values, ops.zeros_like(values)), axis=-1)
