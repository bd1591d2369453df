"""Contrastive search."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.beams import SlotBeams, SlotState
from keras_attn.generation.generative_model import GenerativeModel, vocabulary_size_of
from keras_attn.generation.processors import BANNED
from keras_attn.generation.processors.selection import log_probabilities
from keras_attn.generation.sequence_state import SequenceContext, SequenceState
from keras_attn.generation.single_sequence import SingleSequence
from keras_attn.generation.strategy import index_of_largest
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.arrays import add, axis_size, matmul_transposed
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.strategy import Decoding


class Candidates(NamedTuple):
    """Additional loop variables of contrastive search, see `SequenceState`.

    Attributes:
        layout: `SlotState` of the candidates of this step.
        logits: Float `(B, 1, V)`, by which the candidates were selected.
        log_probabilities: Float32 `(B, top_k)`, of the candidates.
        context_vectors: Float32 `(B, P + max_length, D)`, the decoder outputs so far, normalised to length one.
        context_mask: Bool `(B, P + max_length)`, which of them exist.
    """

    layout: SlotState
    logits: Tensor
    log_probabilities: Tensor
    context_vectors: Tensor
    context_mask: Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class ContrastiveSearch(SingleSequence):
    """`y_t = argmax_y (1 - alpha) p(y | y_<t) - alpha max_j cos(h_y, h_j)` over the `top_k` most likely tokens.

    `h_y` is the decoder output at `y`, and `h_j` are those at all tokens before it, from the first of the prompt or the
    start token. All candidates of a step are in adjacent cache slots and computed by one call of the model.

    Args:
        top_k: Number of candidates.
        alpha: Weight of the penalty, from 0 to 1; 0 is greedy search.

    Raises:
        ValueError: If an argument is invalid, or the model's cache does not have one slot per token.

    Reference:
        [A Contrastive Framework for Neural Text Generation](https://arxiv.org/abs/2202.06417), Su et al., 2022.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, LanguageModel
    >>> from keras_attn.generation import ContrastiveSearch
    >>> model = LanguageModel(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> model.generate(np.array([[5, 6, 7]]), config=GenerationConfig(4, strategy=ContrastiveSearch())).shape
    (1, 4)
    """

    top_k: int = 4
    alpha: float = 0.6

    # The last token is fed to the model too, so it needs a position.
    lookahead = 1

    def __post_init__(self):
        check_positive(top_k=self.top_k)
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, (int, float)) or not 0 <= self.alpha <= 1:
            raise ValueError(f"`alpha` must be a number in 0 to 1. Received: alpha={self.alpha!r}")

    def graph_numbers(self) -> dict[str, float]:
        return {"alpha": np.float32(self.alpha)}

    def validate(self, model: GenerativeModel, config: GenerationConfig) -> None:
        if not model.has_slots:
            raise ValueError(
                "`strategy` must be another one for a model whose cache does not have one slot per token. "
                f"Received: ContrastiveSearch for {type(model).__name__}"
            )
        if getattr(model, "pointer_generator", None) is not None:
            raise ValueError(
                "`strategy` must be another one for a model with a `pointer_generator`, which computes its logits from "
                f"more than hidden states. Received: ContrastiveSearch for {type(model).__name__}"
            )
        size = vocabulary_size_of(model)
        if self.top_k > size:
            raise ValueError(f"`top_k` must be at most the vocabulary of {size}. Received: top_k={self.top_k}")

    def start(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[SequenceContext, SequenceState]:
        model, config, count = decoding.model, decoding.config, self.top_k
        prompt, real = model.decoder_prompt(inputs, mask, config.start_id)
        batch, size = axis_size(prompt, 0), prompt.shape[1] or axis_size(prompt, 1)
        num_slots = config.max_length * count
        # Prefill returns no decoder outputs of the prompt, so only its memory is used.
        _, memory = model.prefill(inputs, mask, length=1, bounded=False)
        cache = model.decoder.init_cache(batch, size + num_slots, bounded=False)
        positions = ops.expand_dims(ops.arange(size, dtype="int32"), 0)
        lengths = ops.sum(ops.cast(real, "int32"), axis=1, keepdims=True)
        # One row of positions per prompt, as in all later steps.
        hidden, cache = model.decode_hidden(prompt, positions + ops.zeros_like(lengths), cache, memory)
        last = ops.cast(ops.equal(positions, ops.maximum(lengths - 1, 0)), hidden.dtype)
        last_hidden = ops.sum(ops.multiply(hidden, ops.expand_dims(last, -1)), axis=1, keepdims=True)
        token = ops.zeros((batch, 1), dtype="int32")
        state = SequenceState(
            step=ops.zeros((), dtype="int32"),
            token=token,
            done=ops.zeros((batch,), dtype="bool"),
            tokens=add(token, ops.full((1, config.max_length), config.pad_id, dtype="int32")),
            scores=ops.zeros((batch, config.max_length), dtype="float32"),
            cache=(),
            processors=decoding.start_processors(decoding.history(inputs, mask)),
        )
        logits, tokens, scores = self._candidates(decoding, last_hidden, state)

        free = ops.zeros((batch, num_slots), dtype="bool")
        visible = ops.repeat(ops.expand_dims(ops.concatenate([real, free], axis=1), 1), count, axis=1)
        later = ops.zeros((batch, config.max_length, hidden.shape[-1]), dtype="float32")
        candidates = Candidates(
            layout=SlotState(token=tokens, cache=kv_cache.packed(cache), visible=visible),
            logits=logits,
            log_probabilities=scores,
            context_vectors=ops.concatenate([unit(hidden), later], axis=1),
            context_mask=ops.concatenate([real, free[:, : config.max_length]], axis=1),
        )
        fixed = SequenceContext(memory, ops.repeat(lengths, count, axis=1), drawing=())
        return fixed, state._replace(extra=candidates)

    def choose(self, decoding: Decoding, drawing: Nest, logits: Tensor, step: Tensor) -> Tensor:
        return drawing

    def advance(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState) -> SequenceState:
        layout, candidates = SlotBeams(decoding, self.top_k), state.extra
        hidden, layout_state = layout.decode(fixed, candidates.layout, state.step)
        directions = unit(hidden)
        similarity = matmul_transposed(directions, candidates.context_vectors)
        nearest = ops.max(ops.where(ops.expand_dims(candidates.context_mask, 1), similarity, -1.0), axis=-1)
        likely = candidates.log_probabilities
        alpha = self.number("alpha")
        values = (np.float32(1) - alpha) * ops.exp(likely) - alpha * nearest
        # There may be fewer allowed tokens than candidates.
        values = ops.where(ops.greater(likely, BANNED), values, BANNED)
        best = ops.cast(index_of_largest(values), "int32")
        is_best = ops.equal(ops.arange(self.top_k, dtype="int32"), ops.expand_dims(best, -1))

        def of_best(values):
            here = ops.cast(ops.expand_dims(is_best, -1), values.dtype)
            return ops.sum(ops.multiply(values, here), axis=1, keepdims=True)

        token = ops.sum(ops.where(is_best, candidates.layout.token, 0), axis=1)
        accepted = self.accept(decoding, fixed._replace(drawing=token), state, candidates.logits)
        logits, tokens, scores = self._candidates(decoding, of_best(hidden), accepted)
        size = axis_size(candidates.context_vectors, 1)
        column = ops.equal(ops.arange(size, dtype="int32"), add(state.step, size - decoding.config.max_length))
        parents = ops.repeat(ops.expand_dims(best, 1), self.top_k, axis=1)
        candidates = Candidates(
            layout=layout.select(layout_state, parents, tokens),
            logits=logits,
            log_probabilities=scores,
            context_vectors=ops.where(ops.expand_dims(column, -1), of_best(directions), candidates.context_vectors),
            context_mask=ops.logical_or(candidates.context_mask, column),
        )
        return accepted._replace(extra=candidates)

    def _candidates(self, decoding, hidden, state):
        """Logits `(B, 1, V)` of decoder outputs `(B, 1, D)`; the best tokens and log-probabilities, `(B, top_k)`."""
        logits = decoding.logits(hidden)
        processed = ops.cast(ops.squeeze(logits, 1), "float32")
        processed = decoding.process(processed, state.processors, state.step)
        scores, tokens = ops.top_k(log_probabilities(processed), self.top_k)
        return logits, tokens, scores


def unit(x):
    """Normalises vectors to length one, in float32."""
    x = ops.cast(x, "float32")
    return ops.divide(x, ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12))
