"""Diverse beam search."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_finite, check_positive
from keras_attn.generation.beam_search import BeamSearch
from keras_attn.generation.beam_state import BeamContext, BeamPools, BeamState
from keras_attn.generation.beams import gather_beams
from keras_attn.generation.processors import BANNED
from keras_attn.generation.processors.selection import in_float32, unless_banned
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class DiverseBeamSearch(BeamSearch):
    """Runs `num_groups` beam searches of `num_beams / num_groups` beams each, one after another at every step.

    The value of a token to a group is `log p(y) - diversity_penalty * n(y)`, where `n(y)` is the number of beams of
    earlier groups that continue with `y` at the same step, or end with it at the last step. The penalty remains in the
    value of a sequence, by which the sequences of all groups are finally ranked, but not in the `scores` of its tokens.
    A group that has ended no longer penalises later ones.

    Args:
        num_groups: A divisor of `num_beams`.
        diversity_penalty: Weight of the penalty, at least 0.
        **kwargs: See `BeamSearch`. `early_stopping` applies to each group.

    Raises:
        ValueError: If an argument is invalid.

    Reference:
        [Diverse Beam Search](https://arxiv.org/abs/1610.02424), Vijayakumar et al., 2018, with the Hamming diversity.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, Transformer
    >>> from keras_attn.generation import DiverseBeamSearch
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> config = GenerationConfig(4, strategy=DiverseBeamSearch(4, num_sequences=4, num_groups=2))
    >>> model.generate(np.array([[5, 6, 7]]), config=config).shape
    (1, 4, 4)
    """

    num_groups: int = 2
    diversity_penalty: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_positive(num_groups=self.num_groups)
        check_finite(diversity_penalty=self.diversity_penalty)
        if self.num_beams % self.num_groups:
            raise ValueError(
                f"`num_groups` must divide `num_beams`={self.num_beams}. Received: num_groups={self.num_groups}"
            )
        if self.diversity_penalty < 0:
            raise ValueError(
                f"`diversity_penalty` must be at least 0. Received: diversity_penalty={self.diversity_penalty}"
            )

    def graph_numbers(self) -> dict[str, float]:
        return {**super().graph_numbers(), "diversity_penalty": in_float32(self.diversity_penalty)}

    @property
    def _group_size(self):
        return self.num_beams // self.num_groups

    def start(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[BeamContext, BeamState]:
        fixed, state = super().start(decoding, inputs, mask)
        number = ops.mod(ops.arange(self.num_beams, dtype="int32"), self._group_size)
        running, can_improve = state.pools.running, ops.repeat(state.pools.can_improve, self.num_groups, axis=1)
        values = add(ops.where(ops.equal(number, 0), 0.0, BANNED), ops.zeros_like(running.values))
        pools = state.pools._replace(running=running._replace(values=values), can_improve=can_improve)
        return fixed, state._replace(pools=pools)

    def unfinished(self, decoding: Decoding, state: BeamState) -> Tensor:
        return ops.logical_and(state.step < decoding.last_step, ops.any(state.pools.can_improve))

    def _select(self, decoding, fixed, pools, step, log_probabilities):
        size, vocabulary = self._group_size, ops.arange(log_probabilities.shape[-1], dtype="int32")
        penalties = ops.zeros_like(log_probabilities[:, 0])
        groups = []
        for i in range(self.num_groups):
            beams = slice(i * size, (i + 1) * size)
            running, finished = _columns(pools.running, beams), _columns(pools.finished, beams)
            can_improve = pools.can_improve[:, i : i + 1]
            group = self.unchecked(_Group, num_beams=size, num_sequences=1, penalties=penalties)
            own = BeamPools(running, finished, can_improve)
            own, parents, tokens = group._select(decoding, fixed, own, step, log_probabilities[:, beams])
            groups.append((own, parents + i * size, tokens))
            same = ops.cast(ops.equal(ops.expand_dims(tokens, -1), vocabulary), "float32")
            counts = ops.multiply(ops.sum(same, axis=1), ops.cast(can_improve, "float32"))
            penalties = add(penalties, ops.multiply(counts, self.number("diversity_penalty")))
        return keras.tree.map_structure(lambda *parts: ops.concatenate(parts, axis=1), *groups)

    def result(self, decoding: Decoding, fixed: BeamContext, state: BeamState) -> dict[str, Tensor]:
        _, best = ops.top_k(state.pools.finished.values, self.num_beams)
        pools = state.pools._replace(finished=gather_beams(state.pools.finished, best))
        return super().result(decoding, fixed, state._replace(pools=pools))


@dataclasses.dataclass(frozen=True)
class _Group(BeamSearch):
    """A beam search of one group at one step, with `penalties` `(B, V)` for the tokens."""

    penalties: object = None

    def _token_values(self, log_probabilities):
        return unless_banned(log_probabilities, ops.subtract(log_probabilities, ops.expand_dims(self.penalties, 1)))


def _columns(pool, columns):
    return keras.tree.map_structure(lambda x: x[:, columns], pool)
