"""What every attention kernel is given."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from keras_attn.typing import Seed, Tensor

if TYPE_CHECKING:
    from keras_attn.ops.attention_mask import AttentionMask


@dataclasses.dataclass(frozen=True)
class AttentionArguments:
    """All that an attention kernel is given besides queries, keys and values: `kernel(q, k, v, arguments)`.

    Args:
        mask: optional `keras_attn.ops.AttentionMask`.
        bias: optional float that broadcasts to `(B, N, T, S)`, added to the logits.
        scale: factor of the logits; `H ** -0.5` where None.
        dropout: rate at which attention weights are dropped in training.
        seed: int or `keras.random.SeedGenerator` for the dropout.
        training: whether dropout is on.
        logit_soft_cap: optional `c`: logits become `c * tanh(logits / c)` before bias and mask.
        sinks: optional float `(N,)`: a logit a head that takes part in the softmax and attends to nothing.
        return_scores: whether to return the weights `(B, N, T, S)` as well, as they are before dropout.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import AttentionArguments, dense_attention
    >>> arguments = AttentionArguments(scale=1.0, return_scores=True)
    >>> output, scores = dense_attention(*np.ones((3, 1, 2, 5, 4), "float32"), arguments)
    >>> tuple(scores.shape)
    (1, 2, 5, 5)
    """

    mask: AttentionMask | None = None
    bias: Tensor | None = None
    scale: float | None = None
    dropout: float = 0.0
    seed: Seed | None = None
    training: bool = False
    logit_soft_cap: float | None = None
    sinks: Tensor | None = None
    return_scores: bool = False

    @property
    def active_dropout(self) -> float:
        """The rate of the dropout in this call: zero outside of training."""
        return self.dropout if self.training else 0.0


class AttentionKernel(Protocol):
    """A kernel of this package: it takes `AttentionArguments`, or their fields as keywords, which replace theirs."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        arguments: AttentionArguments | None = None,
        *,
        mask: AttentionMask | None = None,
        bias: Tensor | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        seed: Seed | None = None,
        training: bool = False,
        logit_soft_cap: float | None = None,
        sinks: Tensor | None = None,
        return_scores: bool = False,
    ) -> Any: ...


def attention_kernel(kernel: Callable[[Tensor, Tensor, Tensor, AttentionArguments], Any]) -> AttentionKernel:
    """A decorator: `kernel(q, k, v, arguments)`, which then takes the fields of `arguments` as keywords too."""

    @functools.wraps(kernel)
    def attend(q, k, v, arguments=None, **fields):
        return kernel(q, k, v, dataclasses.replace(arguments or AttentionArguments(), **fields))

    # The parameters without `self`, for `help` and editors.
    signature = inspect.signature(AttentionKernel.__call__)
    attend.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    return attend
