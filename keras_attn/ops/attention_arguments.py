"""Arguments and type of attention kernels."""

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
    """The arguments of an attention kernel besides queries, keys and values: `kernel(q, k, v, arguments)`.

    Args:
        mask: Optional `keras_attn.ops.AttentionMask`.
        bias: Optional float that broadcasts to `(B, N, T, S)`, added to the logits.
        scale: Factor of the logits. Defaults to `H ** -0.5`.
        dropout: Dropout rate of the attention weights in training.
        seed: Int or `keras.random.SeedGenerator` for the dropout.
        training: Whether to apply dropout.
        logit_soft_cap: Optional `c`: logits become `c * tanh(logits / c)` before bias and mask.
        sinks: Optional float `(N,)`, one more logit per head that takes part in the softmax and attends to nothing.
        return_scores: Whether to also return the weights before dropout, `(B, N, T, S)`.

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
        """The dropout rate of this call, zero outside of training."""
        return self.dropout if self.training else 0.0


class AttentionKernel(Protocol):
    """A kernel of this package: takes `AttentionArguments`, their fields as keywords, or both; keywords win."""

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
    """Decorator that lets `kernel(q, k, v, arguments)` also take the fields of `arguments` as keywords."""

    @functools.wraps(kernel)
    def attend(q, k, v, arguments=None, **fields):
        return kernel(q, k, v, dataclasses.replace(arguments or AttentionArguments(), **fields))

    # The parameters without `self`, for `help` and editors.
    signature = inspect.signature(AttentionKernel.__call__)
    attend.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    return attend
