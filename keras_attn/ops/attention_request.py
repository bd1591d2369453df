"""What a call asks of an attention kernel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras_attn.ops.attention_arguments import AttentionArguments
from keras_attn.typing import Shape, Tensor

if TYPE_CHECKING:
    from keras_attn.ops.attention_mask import AttentionMask


@dataclasses.dataclass(frozen=True)
class AttentionRequest:
    """What a call asks of a kernel: all that may be a reason to refuse it, or to prefer another.

    Args:
        query_shape: static shape `(B, N, T, H)` of the queries, None for what is not known.
        key_shape: static shape `(B, K, S, H)` of the keys.
        mask: the call's `AttentionMask`, or None.
        has_bias, has_soft_cap, has_sinks: whether the kernel is given such an argument.
        dropout: rate of the dropout as it acts in this call: zero outside of training.
        cached: whether the keys are the slots of a cache, so that their number is not that of the queries.
        return_scores: whether the weights are asked for.
        memory_efficient: whether the kernel must not hold all logits.
    """

    query_shape: Shape = (None, None, None, None)
    key_shape: Shape = (None, None, None, None)
    mask: AttentionMask | None = None
    has_bias: bool = False
    has_soft_cap: bool = False
    has_sinks: bool = False
    dropout: float = 0.0
    cached: bool = False
    return_scores: bool = False
    memory_efficient: bool = False

    @classmethod
    def of(
        cls, q: Tensor, k: Tensor, arguments: AttentionArguments, cached: bool = False, memory_efficient: bool = False
    ) -> AttentionRequest:
        """The request of the call `kernel(q, k, v, arguments)`."""
        return cls(
            query_shape=tuple(q.shape),
            key_shape=tuple(k.shape),
            mask=arguments.mask,
            has_bias=arguments.bias is not None,
            has_soft_cap=arguments.logit_soft_cap is not None,
            has_sinks=arguments.sinks is not None,
            dropout=arguments.active_dropout,
            cached=cached,
            return_scores=arguments.return_scores,
            memory_efficient=memory_efficient,
        )
