"""Requirements of a call to an attention kernel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras_attn.ops.attention_arguments import AttentionArguments
from keras_attn.typing import Shape, Tensor

if TYPE_CHECKING:
    from keras_attn.ops.attention_mask import AttentionMask


@dataclasses.dataclass(frozen=True)
class AttentionRequest:
    """The properties of a call from which a kernel is selected.

    Args:
        query_shape: Static shape `(B, N, T, H)` of the queries, with None for unknown sizes.
        key_shape: Static shape `(B, K, S, H)` of the keys.
        mask: `AttentionMask` of the call, or None.
        has_bias, has_soft_cap, has_sinks: Whether the call has such an argument.
        dropout: Dropout rate of the call, zero outside of training.
        cached: Whether the keys are the slots of a cache, whose number differs from that of the queries.
        return_scores: Whether to return the weights.
        memory_efficient: Whether the kernel must not materialise all logits.
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
        """The request for the call `kernel(q, k, v, arguments)`."""
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
