"""Beam search."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_finite, check_positive
from keras_attn.generation.beam_state import BeamContext, BeamPools, BeamState, FinishedBeams, RunningBeams
from keras_attn.generation.beams import beams, flat_rows, gather_beams
from keras_attn.generation.generative_model import GenerativeModel, check_reads_ids, vocabulary_size_of
from keras_attn.generation.processors import BANNED
from keras_attn.generation.processors.selection import bounded, in_float32, unless_banned
from keras_attn.generation.single_sequence import repeated
from keras_attn.generation.strategy import Strategy, put
from keras_attn.ops.arrays import add, axis_size, reshape
from keras_attn.ops.attention_recording import recording
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.strategy import Decoding


LENGTH_PENALTIES = ("power", "gnmt")


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class BeamSearch(Strategy):
    """Beam search: keeps the `num_beams` most likely unfinished and the `num_beams` best finished sequences per row.

    The value of a finished sequence `y`, including its end token, is `log p(y) / penalty(|y|) + coverage`. The penalty
    is `|y| ** length_penalty`, or `((5 + |y|) / 6) ** length_penalty` for `penalty="gnmt"`. The coverage is
    `coverage_penalty * sum_s log min(sum_t a_ts, 1)` over the source positions `s`, with the attention `a` to the
    memory, averaged over layers and heads. Finished sequences occupy no beam: `num_beams` others are still extended. A
    sequence with a banned token is never returned: if processors allow fewer than `num_sequences`, the others are all
    padding, with a value of `BANNED`.

    Args:
        num_beams: Number of beams.
        length_penalty: Exponent; values above 0 favour long sequences.
        penalty: "power" or "gnmt".
        coverage_penalty: Weight of the coverage; only for models with a memory.
        early_stopping: If True, a row ends once `num_beams` sequences have finished. If False, it ends once no beam, at
            its current length, is better than the worst of them. If "never", it ends once no beam can become better.
        num_sequences: Number of best sequences to return, at most `num_beams`.

    Raises:
        ValueError: If an argument is invalid.

    Reference:
        [Google's Neural Machine Translation System](https://arxiv.org/abs/1609.08144), Wu et al., 2016, section 7.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, Transformer
    >>> from keras_attn.generation import BeamSearch
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> config = GenerationConfig(4, strategy=BeamSearch(3, num_sequences=2))
    >>> model.generate(np.array([[5, 6, 7]]), config=config).shape
    (1, 2, 4)
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    penalty: str = "power"
    coverage_penalty: float = 0.0
    early_stopping: bool | str = False
    num_sequences: int = 1

    def __post_init__(self):
        check_positive(num_beams=self.num_beams, num_sequences=self.num_sequences)
        check_finite(length_penalty=self.length_penalty, coverage_penalty=self.coverage_penalty)
        if self.num_sequences > self.num_beams:
            raise ValueError(
                f"`num_sequences` must be at most num_beams={self.num_beams}. "
                f"Received: num_sequences={self.num_sequences}"
            )
        if self.penalty not in LENGTH_PENALTIES:
            raise ValueError(f"`penalty` must be one of {list(LENGTH_PENALTIES)}. Received: penalty={self.penalty!r}")
        if self.early_stopping not in (True, False, "never"):
            raise ValueError(
                f"`early_stopping` must be True, False or 'never'. Received: early_stopping={self.early_stopping!r}"
            )

    def graph_numbers(self) -> dict[str, float]:
        numbers = {"length_penalty": in_float32(self.length_penalty)}
        if self.coverage_penalty:
            numbers["coverage_penalty"] = in_float32(self.coverage_penalty)
        return numbers

    def validate(self, model: GenerativeModel, config: GenerationConfig) -> None:
        vocabulary_size = vocabulary_size_of(model)
        if self._num_candidates(config) > self.num_beams * vocabulary_size:
            raise ValueError(
                f"`end_id` must have fewer tokens than the vocabulary of {vocabulary_size} for beam search. "
                f"Received: end_id={config.end_id}"
            )
        if not self.coverage_penalty:
            return
        check_reads_ids(model, "`coverage_penalty`")
        if not model.alignment_layers():
            raise ValueError(
                "`coverage_penalty` must be 0 for a model without attention to a memory. "
                f"Received: coverage_penalty={self.coverage_penalty}"
            )

    def start(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[BeamContext, BeamState]:
        count = self.num_beams
        fixed, layout = beams(decoding, count).start(inputs, mask)
        batch = axis_size(inputs, 0)
        history = decoding.history(inputs, mask)
        rows = {name: getattr(history, name) for name in ("ids", "mask", "source", "source_mask")}
        history = dataclasses.replace(history, **repeated(rows, count, batch))
        # All beams start equal, so only the first one is extended.
        first = ops.where(ops.equal(ops.arange(count, dtype="int32"), 0), 0.0, BANNED)
        shape, coverage = (batch, count, decoding.config.max_length), ()
        if self.coverage_penalty:
            coverage = ops.zeros((batch, count, axis_size(inputs, 1)), dtype="float32")
            fixed = fixed._replace(source_mask=decoding.model.padding_mask(inputs, mask))
        tokens = ops.full(shape, decoding.config.pad_id, dtype="int32")
        scores = ops.zeros(shape, dtype="float32")
        values = ops.full(shape[:2], BANNED, dtype="float32")
        state = BeamState(
            step=ops.zeros((), dtype="int32"),
            layout=layout,
            processors=decoding.start_processors(history),
            pools=BeamPools(
                RunningBeams(tokens, scores, ops.zeros((batch, 1), dtype="float32") + first, coverage),
                FinishedBeams(tokens, scores, values, ops.zeros((batch, count), dtype="bool")),
                can_improve=ops.ones((batch, 1), dtype="bool"),
            ),
        )
        return fixed, state

    def unfinished(self, decoding: Decoding, state: BeamState) -> Tensor:
        more = ops.logical_and(state.step < decoding.last_step, ops.any(state.pools.can_improve))
        if self.early_stopping is True:
            more = ops.logical_and(more, ops.logical_not(ops.all(state.pools.finished.done)))
        return more

    def advance(self, decoding: Decoding, fixed: BeamContext, state: BeamState) -> BeamState:
        step, pools = state.step, state.pools
        layout = beams(decoding, self.num_beams)
        # Linear attention has no scores to record.
        with recording() if self.coverage_penalty else contextlib.nullcontext() as records:
            hidden, layout_state = layout.decode(fixed, state.layout, step)
        logits = ops.cast(decoding.logits(hidden), "float32")
        vocabulary_size = logits.shape[-1]
        flat = reshape(ops.log_softmax(logits, axis=-1), (-1, vocabulary_size))
        flat = decoding.process(flat, state.processors, step)
        if self.coverage_penalty:
            coverage = add(pools.running.coverage, self._attention(decoding, records))
            pools = pools._replace(running=pools.running._replace(coverage=coverage))

        log_probabilities = reshape(flat, (-1, self.num_beams, vocabulary_size))
        pools, parents, tokens = self._select(decoding, fixed, pools, step, log_probabilities)
        rows = flat_rows(parents)
        processors = keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), state.processors)
        return BeamState(
            step=step + 1,
            layout=layout.select(layout_state, parents, tokens),
            processors=decoding.update_processors(processors, reshape(tokens, (-1,)), step),
            pools=pools,
        )

    def _select(self, decoding, fixed, pools, step, log_probabilities):
        """Returns `(pools, parents, tokens)`: the updated `BeamPools`, and each running beam's parent and token."""
        parents, tokens, scores, values = self._candidates(decoding, pools.running, log_probabilities)
        is_end = ops.logical_or(decoding.ends(tokens), ops.equal(step, decoding.last_step - 1))
        candidates = gather_beams(pools.running._replace(values=()), parents)
        candidates = RunningBeams(
            put(candidates.tokens, step, tokens), put(candidates.scores, step, scores), values, candidates.coverage
        )
        finished = self._finish(decoding, fixed, pools, step, candidates, is_end)
        values, chosen = ops.top_k(ops.where(is_end, BANNED, values), self.num_beams)
        running, parents, tokens = gather_beams((candidates, parents, tokens), chosen)
        running = running._replace(values=values)
        can_improve = self._can_improve(decoding, pools.can_improve, step + 1, running, finished)
        return BeamPools(running, finished, can_improve), parents, tokens

    def _num_candidates(self, config):
        """Enough to fill all beams even if every end token is among the best tokens of each."""
        return (1 + len(config.end_ids)) * self.num_beams

    def _candidates(self, decoding, running, log_probabilities):
        """The best continuations of all beams: parent beam, token, log-probability and value, `(B, C)` each."""
        vocabulary_size = log_probabilities.shape[-1]
        values, token_values = ops.expand_dims(running.values, -1), self._token_values(log_probabilities)
        # Not `ops.add`: Keras may treat a second operand with a single long axis as a bias of the last axis.
        total = unless_banned(token_values, token_values + values)
        total, scores = (
            reshape(x, (-1, self.num_beams * vocabulary_size))
            for x in (ops.where(ops.greater(values, BANNED), total, BANNED), log_probabilities)
        )
        values, index = ops.top_k(total, self._num_candidates(decoding.config))
        parents, tokens = ops.floor_divide(index, vocabulary_size), ops.mod(index, vocabulary_size)
        return parents, tokens, gather_beams(scores, index), values

    def _token_values(self, log_probabilities):
        """The amount that each token adds to the value of a sequence."""
        return log_probabilities

    def _finish(self, decoding, fixed, pools, step, candidates, is_end):
        """The finished sequences, updated with the best candidates that have ended."""
        finished, count = pools.finished, self.num_beams
        # Only the best `num_beams` candidates may finish; the others are there to fill the beams.
        ended = ops.logical_and(is_end, ops.less(ops.arange(is_end.shape[1], dtype="int32"), count))
        is_allowed = ops.greater(candidates.values, BANNED)
        admitted = ops.logical_and(ops.logical_and(ended, is_allowed), pools.can_improve)
        if self.early_stopping is True:
            full = ops.all(finished.done, axis=-1, keepdims=True)
            admitted = ops.logical_and(admitted, ops.logical_not(full))
        values = ops.divide(candidates.values, self._penalty(step + 1))
        if self.coverage_penalty:
            covered = ops.log(ops.clip(candidates.coverage, 1e-9, 1.0))
            covered = ops.where(ops.expand_dims(fixed.source_mask, 1), covered, ops.zeros_like(covered))
            values = add(values, self.number("coverage_penalty") * ops.sum(covered, axis=-1))
        ended = FinishedBeams(
            candidates.tokens, candidates.scores, ops.where(admitted, bounded(values), BANNED), admitted
        )
        merged = FinishedBeams(*(ops.concatenate(pair, axis=1) for pair in zip(finished, ended, strict=True)))
        values, chosen = ops.top_k(merged.values, count)
        return gather_beams(merged, chosen)._replace(values=values)

    def _can_improve(self, decoding, can_improve, length, running, finished):
        best = running.values[:, :1]
        longest = self._longest(decoding, length) if self.early_stopping == "never" else length
        best = unless_banned(best, ops.divide(best, self._penalty(longest)))
        worst = ops.where(finished.done, ops.min(finished.values, axis=1, keepdims=True), BANNED)
        return ops.logical_and(can_improve, ops.any(ops.greater(best, worst), axis=-1, keepdims=True))

    def _longest(self, decoding, length):
        """The length, at least `length`, at which a given probability has the highest value."""
        is_favoured = self.number("length_penalty") > 0
        if ops.is_tensor(is_favoured):
            return ops.where(is_favoured, decoding.last_step, length)
        return decoding.last_step if is_favoured else length

    def _penalty(self, length):
        length = ops.cast(length, "float32")
        if self.penalty == "gnmt":
            length = (5.0 + length) / 6.0
        return ops.power(length, self.number("length_penalty"))

    def _attention(self, decoding, records):
        """Attention to the memory, averaged over heads and layers: `(B, beams, S)`."""
        maps = [ops.mean(ops.cast(records[path], "float32"), axis=1) for path in decoding.model.alignment_layers()]
        mean = sum(maps[1:], maps[0]) / len(maps)
        return reshape(mean, (-1, self.num_beams, axis_size(mean, -1)))

    def result(self, decoding: Decoding, fixed: BeamContext, state: BeamState) -> dict[str, Tensor]:
        finished = state.pools.finished
        outputs = {"tokens": finished.tokens, "scores": finished.scores, "sequence_scores": finished.values}
        outputs = {name: value[:, : self.num_sequences] for name, value in outputs.items()}
        return outputs if self.num_sequences > 1 else {name: value[:, 0] for name, value in outputs.items()}
