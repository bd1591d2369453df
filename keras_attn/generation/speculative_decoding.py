"""Speculative decoding."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.draft_model import DraftModel, rewound
from keras_attn.generation.generative_model import GenerativeModel, check_reads_ids, vocabulary_size_of
from keras_attn.generation.greedy_or_sampling import GreedyOrSampling
from keras_attn.generation.prompt_lookup import PromptLookup
from keras_attn.generation.sequence_state import SequenceContext, SequenceState
from keras_attn.ops.arrays import add
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.strategy import Decoding


class Speculation(NamedTuple):
    """Additional loop variables of speculative decoding, see `SequenceState`.

    Attributes:
        draft: The state of the draft.
        rounds: Int32 `(B,)`, the number of calls of the model while a row was unfinished.
    """

    draft: Nest
    rounds: Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class SpeculativeDecoding(GreedyOrSampling):
    """Generates the tokens of `Greedy()` or `Sampling(seed)` in fewer calls of the model.

    Each round, a draft proposes `num_tokens` tokens, and one call of the model returns the logits after all of them.
    Proposals are accepted up to the first that differs from the token that the model selects, which replaces it.
    The draft samples with the same Gumbel noise as the model: it proposes `argmax_y log q(y) + g_y`, and the model
    selects `argmax_y log p(y) + g_y`. So a sample is drawn from `p` exactly, is the same for every draft, and a
    proposal is accepted with a probability of at least `(1 - d) / (1 + d)`, with the total variation `d` of `p` and
    `q`. The rows of a batch advance together, by the proposals that all unfinished ones accept. The output `rounds`,
    int32 `(B,)`, counts the calls of the model while a row was unfinished.

    Args:
        draft: `PromptLookup()`, or a smaller model with the same vocabulary. A model is compared by identity, is not
            saved with the settings, and lives as long as the graphs that use it.
        num_tokens: Number of proposed tokens per round.
        sampling: Whether to sample tokens instead of selecting the most likely ones.
        seed: See `Sampling`.

    Raises:
        ValueError: If an argument is invalid or does not fit the model, or if settings with a model are saved.

    Reference:
        [Fast Inference from Transformers via Speculative Decoding](https://arxiv.org/abs/2211.17192), Leviathan et al.,
        2023; [Coupling without Communication](https://arxiv.org/abs/2408.07978), Daliri et al., 2024, for the noise.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, LanguageModel
    >>> from keras_attn.generation import SpeculativeDecoding
    >>> model = LanguageModel(50, num_layers=2, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> draft = LanguageModel(50, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16)
    >>> config = GenerationConfig(8, strategy=SpeculativeDecoding(draft))
    >>> outputs = model.generate(np.array([[5, 6, 7]]), config=config, return_dict=True)
    >>> bool((outputs["tokens"] == model.generate(np.array([[5, 6, 7]]), max_length=8)).all())
    True
    """

    # A frozen dataclass, so instances may share it.
    draft: PromptLookup | GenerativeModel = PromptLookup()  # noqa: RUF009
    num_tokens: int = 4
    sampling: bool = False
    seed: int = 0

    def __post_init__(self):
        check_positive(num_tokens=self.num_tokens)
        if not isinstance(self.draft, PromptLookup) and not hasattr(self.draft, "prefill"):
            raise ValueError(f"`draft` must be a PromptLookup, or a model. Received: draft={self.draft!r}")
        super().__post_init__()

    def get_config(self) -> dict[str, Any]:
        if self.models:
            raise ValueError(
                "`draft` must be a PromptLookup if settings are saved: a model is not saved with another one. "
                f"Received: {type(self.draft).__name__}"
            )
        return super().get_config()

    @property
    def models(self) -> tuple[GenerativeModel, ...]:
        return () if isinstance(self.draft, PromptLookup) else (self.draft,)

    @property
    def lookahead(self) -> int:
        return self.num_tokens

    def validate(self, model: GenerativeModel, config: GenerationConfig) -> None:
        for name, value in (("model", model), *(("draft", draft) for draft in self.models)):
            if not value.has_slots:
                raise ValueError(
                    f"`{name}` must have a cache from which tokens can be removed. Received: {type(value).__name__}"
                )
        if not self.models:
            check_reads_ids(model, "PromptLookup")
        for draft in self.models:
            if draft is model:
                raise ValueError("`draft` must be another model. Received: the model itself")
            own, other = model.tokenizer, draft.tokenizer
            if None not in (own, other) and own.vocabulary != other.vocabulary:
                raise ValueError(
                    "`draft` must have the tokenizer of the model, or none. "
                    f"Received: {other!r} and {own!r}, whose pieces differ"
                )
            size, expected = vocabulary_size_of(draft, model.tokenizer), vocabulary_size_of(model)
            if size != expected:
                raise ValueError(
                    f"`draft` must have the model's vocabulary of {expected} tokens. Received: a vocabulary of {size}"
                )

    @property
    def _drafting(self):
        return DraftModel(self.draft) if self.models else self.draft

    def start(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[SequenceContext, SequenceState]:
        fixed, state = super().start(decoding, inputs, mask)
        draft, draft_state = self._drafting.start(self, decoding, inputs, mask)
        rounds = ops.zeros_like(state.token[:, 0])
        return fixed._replace(extra=draft), state._replace(extra=Speculation(draft_state, rounds))

    def advance(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState) -> SequenceState:
        step, count = state.step, self.num_tokens + 1
        proposals, draft = self._drafting.propose(self, decoding, fixed, state)
        offsets = ops.expand_dims(ops.arange(count, dtype="int32"), 0)
        inputs = ops.concatenate([state.token, proposals[:, :-1]], axis=1)
        positions = add(add(fixed.position, step), offsets)
        logits, cache = decoding.decode(inputs, positions, state.cache, fixed.memory)

        def more(accepted, state):
            return ops.logical_and(accepted, self.unfinished(decoding, state))

        def accept_next(_, state):
            here = ops.expand_dims(state.step - step, 0)
            state = self.accept(decoding, fixed, state, ops.take(logits, here, axis=1))
            proposal = ops.take(proposals, here, axis=1)
            accepted = ops.squeeze(ops.equal(state.token, proposal), 1)
            in_draft = ops.less(state.step, step + count)
            return ops.logical_and(in_draft, ops.all(ops.logical_or(accepted, state.done))), state

        # Without the fields that this loop does not change.
        first = ops.ones((), dtype="bool"), state._replace(cache=(), extra=())
        _, accepted = ops.while_loop(more, accept_next, first, maximum_iterations=self.num_tokens + 1)
        rejected = step + count - accepted.step
        rounds = add(state.extra.rounds, ops.cast(ops.logical_not(state.done), "int32"))
        cache, draft = rewound(cache, rejected), self._drafting.rewind(draft, rejected)
        return accepted._replace(cache=cache, extra=Speculation(draft, rounds))

    def result(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState) -> dict[str, Tensor]:
        return {**super().result(decoding, fixed, state), "rounds": state.extra.rounds}
