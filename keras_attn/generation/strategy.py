"""Base class of decoding strategies, and the token loop."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from keras import ops

from keras_attn.generation.generative_model import GenerativeModel, as_generative, reads_ids, vocabulary_size_of
from keras_attn.generation.processors import History
from keras_attn.generation.processors.selection import bounded
from keras_attn.generation.settings import Settings
from keras_attn.ops.arrays import axis_size
from keras_attn.ops.target import current, tracing_for
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


@dataclasses.dataclass(frozen=True)
class Strategy(Settings):
    """Base class of decoding strategies: frozen dataclasses of settings, whose methods are the parts of the token loop.

    All methods take a `Decoding`, and are written in `keras.ops`: the same code runs eagerly, in a `tf.function` and in
    every exported artefact. `fixed` holds the constants of the loop and `state` its variables: nests of tensors, here
    named tuples such as `SequenceContext` and `SequenceState`. If a strategy supports streaming, its state has a
    `step`, the number of tokens so far, `tokens` and `done`.
    """

    # Number of positions beyond those of greedy search for which the model is called.
    lookahead = 0

    # Other models that the strategy calls.
    models = ()

    def validate(self, model: GenerativeModel, config: GenerationConfig) -> None:
        """Raises a ValueError if the strategy does not fit a model or the other settings."""

    def start(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[Nest, Nest]:
        """Returns `(fixed, state)` before the first token.

        Args:
            decoding: `Decoding`.
            inputs, mask: The arguments of the model's `prefill`.
        """
        raise NotImplementedError

    def unfinished(self, decoding: Decoding, state: Nest) -> Tensor:
        """Whether any row is unfinished, a bool scalar."""
        raise NotImplementedError

    def advance(self, decoding: Decoding, fixed: Nest, state: Nest) -> Nest:
        """The state after one or more further tokens per row."""
        raise NotImplementedError

    def result(self, decoding: Decoding, fixed: Nest, state: Nest) -> dict[str, Tensor]:
        """Returns a dict of `tokens`, int32 `(B, L)` or `(B, n, L)`, `scores` of that shape, and `sequence_scores`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Decoding:
    """A model and the settings with which it generates.

    Args:
        model: A `GenerativeModel`.
        config: `GenerationConfig`; ids that are None become those of the model's tokenizer, or the default ones.
        seed: Int32 scalar that replaces the seed of a strategy that samples.
        limit: Int32 scalar, the maximum number of generated tokens. Defaults to `config.max_length`, which determines
            the size of the cache.
        vocabulary_size: Number of tokens that may be generated. Defaults to `vocabulary_size_of(model)`. If it is
            given, the ids of `config` must be resolved.
    """

    model: GenerativeModel
    config: GenerationConfig
    seed: Tensor | None = None
    limit: Tensor | None = None
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        # Processors need no model.
        if hasattr(self.model, "prefill"):
            # What completes a model does not keep it alive.
            object.__setattr__(self, "_given_model", self.model)
            object.__setattr__(self, "model", as_generative(self.model))
        if self.vocabulary_size is None:
            from keras_attn.generation.prompts import settings_of

            object.__setattr__(self, "vocabulary_size", vocabulary_size_of(self.model))
            object.__setattr__(self, "config", settings_of(self.model, self.config))

    def decode(self, ids: Tensor, positions: Tensor, cache: Nest, memory: Nest) -> tuple[Tensor, Nest]:
        """Calls the model's `decode`; returns logits of only the tokens that may be generated."""
        logits, cache = self.model.decode(ids, positions, cache, memory)
        return self._without_unused(logits), cache

    def logits(self, hidden: Tensor) -> Tensor:
        """Calls the model's `logits`; returns those of only the tokens that may be generated."""
        return self._without_unused(self.model.logits(hidden))

    def _without_unused(self, logits):
        return logits if logits.shape[-1] == self.vocabulary_size else logits[..., : self.vocabulary_size]

    @property
    def last_step(self) -> Tensor:
        """The maximum number of generated tokens."""
        return self.config.max_length if self.limit is None else self.limit

    def history(self, inputs: Tensor, mask: Tensor | None) -> History:
        """The `History` for the processors."""
        prompt, real = self.model.decoder_prompt(inputs, mask, self.config.start_id)
        source, source_mask = None, None
        if reads_ids(self.model):
            source, source_mask = inputs, self.model.padding_mask(inputs, mask)
        return History(
            ids=prompt,
            mask=real,
            vocabulary_size=self.vocabulary_size,
            max_length=self.last_step,
            capacity=self.config.max_length,
            end_ids=self.config.end_ids,
            source=source,
            source_mask=source_mask,
        )

    def start_processors(self, history: History) -> tuple[Nest, ...]:
        """The initial states of all processors."""
        return tuple(processor.start(history) for processor in self.config.processors)

    def process(self, logits: Tensor, states: tuple[Nest, ...], step: Tensor) -> Tensor:
        """Applies all processors to logits `(R, V)`."""
        # A logit of minus infinity from the model is no ban: a forced or the only allowed token may have it.
        logits = bounded(logits) if self.config.processors else logits
        for processor, state in zip(self.config.processors, states, strict=True):
            logits = processor(logits, state, step)
        return logits

    def update_processors(self, states: tuple[Nest, ...], tokens: Tensor, step: Tensor) -> tuple[Nest, ...]:
        """The states after `tokens`, int32 `(R,)`, were selected."""
        pairs = zip(self.config.processors, states, strict=True)
        return tuple(processor.update(state, tokens, step) for processor, state in pairs)

    def ends(self, tokens: Tensor) -> Tensor:
        """Which of `tokens` are end tokens."""
        found = ops.zeros_like(tokens, dtype="bool")
        for end in self.config.end_ids:
            found = ops.logical_or(found, ops.equal(tokens, end))
        return found


def run(decoding: Decoding, inputs: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Generates: starts the strategy, loops until it has finished, and returns its result.

    Args:
        decoding: `Decoding`.
        inputs: Int32 `(B, S)` sources, or prompts of a language model; or features `(B, S, ...)`.
        mask: Optional bool `(B, S)`, False at padding. Defaults to the model's `padding_mask`.
    """
    fixed, state = start(decoding, inputs, mask)
    state = run_until(decoding, fixed, state)
    return decoding.config.chosen_strategy.result(decoding, fixed, state)


def start(decoding, inputs, mask=None):
    """Returns `(fixed, state)` of the strategy before the first token; for the arguments see `run`."""
    with tracing_for(current(), cache_storage=decoding.config.cache), _packed_weights(decoding, "prompt"):
        return decoding.config.chosen_strategy.start(decoding, inputs, mask)


def run_until(decoding, fixed, state, until=None):
    """The state after the strategy has finished, or at step `until`, an int32 scalar."""
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
    """`argmax` along the last axis, the first of equal values: int32.

    Computed on integers: Keras' argmax of floats compares sign bits of zeros, for which TFLite has no operator.
    """
    return ops.argmax(ops.cast(ops.equal(x, ops.max(x, axis=-1, keepdims=True)), "int32"), axis=-1)


def put(buffer, step, values):
    """`buffer` `(..., L)` with `values` `(...)` in column `step`."""
    here = ops.equal(ops.arange(axis_size(buffer, -1), dtype="int32"), step)
    return ops.where(here, ops.expand_dims(values, -1), buffer)


def pick(values, index):
    """`values[..., index]` for `values` `(R, V)` and `index` int32 `(R,)`, without a gather."""
    here = ops.equal(ops.arange(values.shape[-1], dtype="int32"), ops.expand_dims(index, -1))
    return ops.sum(ops.where(here, values, ops.zeros_like(values)), axis=-1)
