"""Base class of strategies with one sequence per row."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.generation.processors import BANNED
from keras_attn.generation.sequence_state import SequenceContext, SequenceState
from keras_attn.generation.strategy import Strategy, pick, put
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.arrays import add, axis_size
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding


@dataclasses.dataclass(frozen=True)
class SingleSequence(Strategy):
    """Base class of strategies that append tokens to one sequence per row; subclasses select the tokens."""

    def choose(self, decoding: Decoding, drawing: Nest, logits: Tensor, step: Tensor) -> Tensor:
        """Selects tokens, int32 `(R,)`, by processed logits, float32 `(R, V)`; `drawing` comes from `rows`."""
        raise NotImplementedError

    def rows(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[int, Nest]:
        """Returns `(count, drawing)`: the number of sequences per row, and inputs of `choose`."""
        return 1, ()

    def start(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[SequenceContext, SequenceState]:
        config, batch = decoding.config, axis_size(inputs, 0)
        count, drawing = self.rows(decoding, inputs, mask)
        num_slots = config.max_length + self.lookahead
        # Rejected tokens must not have evicted any from a window.
        cache, memory = decoding.model.prefill(inputs, mask, length=num_slots, bounded=not self.lookahead)
        token, position = decoding.model.first_decoder_inputs(inputs, mask, config.start_id)
        processors = decoding.start_processors(decoding.history(inputs, mask))
        parts = cache, memory, token, position, processors
        cache, memory, token, position, processors = repeated(parts, count, batch)
        if decoding.model.has_slots:
            cache = kv_cache.packed(cache)
        batch = batch * count
        state = SequenceState(
            step=ops.zeros((), dtype="int32"),
            token=token,
            done=ops.zeros((batch,), dtype="bool"),
            tokens=ops.full((batch, config.max_length), config.pad_id, dtype="int32"),
            scores=ops.zeros((batch, config.max_length), dtype="float32"),
            cache=cache,
            processors=processors,
        )
        return SequenceContext(memory, position, drawing), state

    def unfinished(self, decoding: Decoding, state: SequenceState) -> Tensor:
        return ops.logical_and(state.step < decoding.last_step, ops.logical_not(ops.all(state.done)))

    def advance(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState) -> SequenceState:
        positions = add(fixed.position, state.step)
        logits, cache = decoding.decode(state.token, positions, state.cache, fixed.memory)
        return self.accept(decoding, fixed, state._replace(cache=cache), logits)

    def accept(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState, logits: Tensor) -> SequenceState:
        """The state with one more token per row, selected by logits `(R, 1, V)`."""
        step, done = state.step, state.done
        logits = decoding.process(ops.cast(ops.squeeze(logits, 1), "float32"), state.processors, step)
        chosen = self.choose(decoding, fixed.drawing, logits, step)
        score = pick(ops.maximum(ops.log_softmax(logits, axis=-1), BANNED), chosen)
        token = ops.where(done, ops.full_like(chosen, decoding.config.pad_id), chosen)
        return state._replace(
            step=step + 1,
            token=ops.expand_dims(token, 1),
            done=ops.logical_or(done, decoding.ends(token)),
            tokens=put(state.tokens, step, token),
            scores=put(state.scores, step, ops.where(done, ops.zeros_like(score), score)),
            processors=decoding.update_processors(state.processors, token, step),
        )

    def result(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState) -> dict[str, Tensor]:
        return {"tokens": state.tokens, "scores": state.scores, "sequence_scores": ops.sum(state.scores, axis=-1)}


def repeated(tree, count, batch):
    """Repeats each of the `batch` rows of every tensor `count` times in sequence.

    A tensor with a single row for a larger batch is not repeated.
    """
    if count == 1:
        return tree
    # Not `ops.repeat`, whose result has an unknown rank in TFLite.
    rows = ops.floor_divide(ops.arange(batch * count, dtype="int32"), count)
    is_single_prompt = isinstance(batch, int) and batch == 1

    def repeat(x):
        is_for_all = len(x.shape) == 0 or (x.shape[0] == 1 and not is_single_prompt)
        return x if is_for_all else ops.take(x, rows, axis=0)

    return keras.tree.map_structure(repeat, tree)
