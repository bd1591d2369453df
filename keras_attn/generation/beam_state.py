"""Constants and variables of the loop in `beam_search.py`; named tuples for the reason in `sequence_state.py`."""

from __future__ import annotations

from typing import NamedTuple

from keras_attn.typing import Nest, Tensor


class BeamContext(NamedTuple):
    """Constants of the loop.

    Attributes:
        memory: The memory from the model's `prefill`.
        position: Int32, the position of the first token of each beam.
        source_mask: Bool `(B, S)`, False at padding, if there is a coverage penalty; else `()`.
    """

    memory: Nest
    position: Tensor
    source_mask: Nest = ()


class RunningBeams(NamedTuple):
    """The unfinished sequences, `n` per row.

    Attributes:
        tokens: Int32 `(B, n, max_length)`.
        scores: Float32 `(B, n, max_length)`, the log-probability of each token.
        values: Float32 `(B, n)`, the value of each sequence without its length penalty and coverage.
        coverage: Float32 `(B, n, S)`, the attention to the source so far, if there is a coverage penalty; else `()`.
    """

    tokens: Tensor
    scores: Tensor
    values: Tensor
    coverage: Nest = ()


class FinishedBeams(NamedTuple):
    """The best finished sequences, `n` per row.

    Attributes:
        tokens, scores: See `RunningBeams`.
        values: Float32 `(B, n)`, the value of each sequence with its length penalty and coverage.
        done: Bool `(B, n)`, whether there is such a sequence.
    """

    tokens: Tensor
    scores: Tensor
    values: Tensor
    done: Tensor


class BeamPools(NamedTuple):
    """All sequences of a search.

    Attributes:
        running: `RunningBeams`.
        finished: `FinishedBeams`.
        can_improve: Bool `(B, 1)`, or `(B, num_groups)`: whether a running sequence may still be among the best.
    """

    running: RunningBeams
    finished: FinishedBeams
    can_improve: Tensor


class BeamState(NamedTuple):
    """Variables of the loop.

    Attributes:
        step: Int32 scalar, the number of tokens so far.
        layout: `SlotState` or `RowState` of `beams.py`.
        processors: The states of the logit processors.
        pools: `BeamPools`.
    """

    step: Tensor
    layout: Nest
    processors: Nest
    pools: BeamPools
