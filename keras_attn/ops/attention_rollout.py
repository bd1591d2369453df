"""Attention rollout: the share of each input in each output of a stack of attention layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras import ops

from keras_attn.typing import Tensor


def attention_rollout(scores: Sequence[Tensor] | Mapping[str, Tensor], residual: float = 0.5) -> Tensor:
    """`A_L ... A_2 A_1`, where `A_l` is `residual I + (1 - residual) mean_n(scores_l)` with rows that sum to one.

    The identity accounts for the residual connections. Rows of padding, with scores of zero, become identity rows.

    Args:
        scores: Scores of the self-attention layers in order, float `(B, N, T, T)` each, as a sequence or as a dict from
            `keras_attn.attention_maps`.
        residual: Weight of the identity, in [0, 1).

    Returns:
        Float `(B, T, T)`; row `t` holds the share of each input in output `t`.

    Raises:
        ValueError: If `scores` is empty or has an entry of another shape, or `residual` is out of range.

    Reference:
        [Abnar and Zuidema, 2020](https://arxiv.org/abs/2005.00928)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import attention_rollout
    >>> swap = np.array([[[[0.0, 1.0], [1.0, 0.0]]]])
    >>> np.asarray(attention_rollout([swap, swap]))
    array([[[0.5, 0.5],
            [0.5, 0.5]]])
    """
    if not 0 <= residual < 1:
        raise ValueError(f"`residual` must be in [0, 1). Received: residual={residual}")
    named = list(scores.items() if isinstance(scores, dict) else enumerate(scores))
    if not named:
        raise ValueError("`scores` must hold the scores of one or more layers. Received: none")
    rollout = None
    for name, layer in named:
        shape = tuple(layer.shape)
        if len(shape) != 4 or shape[-1] != shape[-2] or shape[-1] != named[0][1].shape[-1]:
            raise ValueError(
                "`scores` must be those of self-attention layers over the same sequence, (B, N, T, T) each. "
                f"Received: shape {shape} for {name!r}"
            )
        mixed = (1 - residual) * ops.mean(layer, axis=1) + residual * ops.eye(shape[-1], dtype=layer.dtype)
        total = ops.sum(mixed, axis=-1, keepdims=True)
        mixed = mixed / ops.where(total > 0, total, ops.ones_like(total))
        rollout = mixed if rollout is None else ops.matmul(mixed, rollout)
    return rollout
