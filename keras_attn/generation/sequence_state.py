"""What a loop over tokens reads and changes where it keeps one sequence a row.

Named tuples, since the loops, graphs and trees of every backend know them: a dataclass would have to be made known to
TensorFlow, JAX and Keras' trees, to each in its own way, and the last of these has no public one.
"""

from __future__ import annotations

from typing import NamedTuple

from keras_attn.typing import Nest, Tensor


class SequenceContext(NamedTuple):
    """What the loop reads.

    Attributes:
        memory: that of the model's `prefill`.
        position: int32 `(R, 1)` or `(1, 1)`, the position of the first token that `decode` is given.
        drawing: what `choose` of the strategy needs.
        extra: what a strategy needs besides, a named tuple of its own.
    """

    memory: Nest
    position: Tensor
    drawing: Nest
    extra: Nest = ()


class SequenceState(NamedTuple):
    """What the loop changes.

    Attributes:
        step: int32 scalar, the number of tokens so far.
        token: int32 `(R, 1)`, the last token, which the model has not been given yet.
        done: bool `(R,)`, which rows have ended.
        tokens: int32 `(R, max_length)`, padding from `step` on.
        scores: float32 `(R, max_length)`, the log-probability of each token.
        cache: that of the model's `decode`.
        processors: the states of the logit processors.
        extra: what a strategy keeps besides, a named tuple of its own.
    """

    step: Tensor
    token: Tensor
    done: Tensor
    tokens: Tensor
    scores: Tensor
    cache: Nest
    processors: Nest
    extra: Nest = ()
