"""What the loop of a beam search reads and changes; named tuples for the reason of `sequence_state.py`."""

from __future__ import annotations

from typing import NamedTuple

from keras_attn.typing import Nest, Tensor


class BeamContext(NamedTuple):
    """What the loop reads.

    Attributes:
        memory: that of the model's `prefill`.
        position: int32, the position of the first token of each beam.
        source_mask: bool `(B, S)`, False at padding, where coverage counts; else `()`.
    """

    memory: Nest
    position: Tensor
    source_mask: Nest = ()


class RunningBeams(NamedTuple):
    """The sequences that go on, `n` a row.

    Attributes:
        tokens: int32 `(B, n, max_length)`.
        scores: float32 `(B, n, max_length)`, the log-probability of each token.
        values: float32 `(B, n)`, what each is worth.
        coverage: float32 `(B, n, S)`, the attention to the source so far, where coverage counts; else `()`.
    """

    tokens: Tensor
    scores: Tensor
    values: Tensor
    coverage: Nest = ()


class FinishedBeams(NamedTuple):
    """The best sequences that have ended, `n` a row.

    Attributes:
        tokens, scores: as of `RunningBeams`.
        values: float32 `(B, n)`, what each is worth, its penalty and coverage included.
        done: bool `(B, n)`, whether there is such a sequence.
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
        can_improve: bool `(B, 1)`, or a column a group: whether a running one may still be among the best finished.
    """

    running: RunningBeams
    finished: FinishedBeams
    can_improve: Tensor


class BeamState(NamedTuple):
    """What the loop changes.

    Attributes:
        step: int32 scalar, the number of tokens so far.
        layout: `SlotState` or `RowState` of `beams.py`.
        processors: the states of the logit processors.
        pools: `BeamPools`.
    """

    step: Tensor
    layout: Nest
    processors: Nest
    pools: BeamPools
