"""Constants and variables of a token loop with one sequence per row.

Named tuples, since the loops, graphs and trees of every backend support them: a dataclass would have to be registered
with TensorFlow, JAX and Keras' trees, each in its own way, and the last of these has no public one.
"""

from __future__ import annotations

from typing import NamedTuple

from keras_attn.typing import Nest, Tensor


class SequenceContext(NamedTuple):
    """Constants of the loop.

    Attributes:
        memory: The memory from the model's `prefill`.
        position: Int32 `(R, 1)` or `(1, 1)`, the position of the first token that `decode` is given.
        drawing: Inputs of the strategy's `choose`, such as a seed.
        extra: Further constants of a strategy, a named tuple of its own.
    """

    memory: Nest
    position: Tensor
    drawing: Nest
    extra: Nest = ()


class SequenceState(NamedTuple):
    """Variables of the loop.

    Attributes:
        step: Int32 scalar, the number of tokens so far.
        token: Int32 `(R, 1)`, the last token, which the model has not been given yet.
        done: Bool `(R,)`, which rows have ended.
        tokens: Int32 `(R, max_length)`, padding from `step` on.
        scores: Float32 `(R, max_length)`, the log-probability of each token.
        cache: The cache of the model's `decode`.
        processors: The states of the logit processors.
        extra: Further variables of a strategy, a named tuple of its own.
    """

    step: Tensor
    token: Tensor
    done: Tensor
    tokens: Tensor
    scores: Tensor
    cache: Nest
    processors: Nest
    extra: Nest = ()
