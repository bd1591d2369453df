"""Routing of tokens to experts, and the auxiliary losses of the router."""

from __future__ import annotations

from keras import ops

from keras_attn.ops.arrays import shape_of
from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Tensor


def expert_routing(logits: Tensor, top_k: int, normalize: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The weights of the `top_k` most likely experts of each token; other weights are zero.

    Args:
        logits: Float `(..., E)`, one per token and expert.
        top_k: Number of experts per token.
        normalize: Whether to divide the weights of the chosen experts by their sum.

    Returns:
        `(weights, probabilities, chosen)`, float `(..., E)` each: the probabilities are the softmax of the logits;
        `chosen` is one for chosen experts and zero for others.

    Reference:
        [Shazeer et al., 2017](https://arxiv.org/abs/1701.06538)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import expert_routing
    >>> weights, probabilities, chosen = expert_routing(np.log([[0.2, 0.5, 0.3]]), top_k=1, normalize=False)
    >>> np.asarray(weights).round(2), np.asarray(chosen)
    (array([[0. , 0.5, 0. ]]), array([[0., 1., 0.]]))
    """
    probabilities = ops.softmax(logits)
    _, experts = ops.top_k(probabilities, top_k)
    # A product with zeros and ones is differentiable without a gather, which no converter supports for every shape.
    chosen = ops.sum(ops.one_hot(experts, logits.shape[-1], dtype=probabilities.dtype), axis=-2)
    weights = ops.multiply(probabilities, chosen)
    if normalize:
        weights = ops.divide(weights, ops.sum(weights, axis=-1, keepdims=True))
    return weights, probabilities, chosen


def load_balancing_loss(probabilities: Tensor, chosen: Tensor, mask: Tensor | None = None) -> Tensor:
    """`E sum_e f_e P_e`, with `f_e` the share of tokens that chose expert `e` and `P_e` its mean probability.

    Args:
        probabilities: Float `(B, T, E)`.
        chosen: Float `(B, T, E)`, ones and zeros.
        mask: Optional bool `(B, T)`, False at tokens to ignore.

    Returns:
        Float scalar: `top_k` if the experts have equal shares, else more.

    Reference:
        [Fedus et al., 2022](https://arxiv.org/abs/2101.03961), equations 4 to 6;
        [Lepikhin et al., 2021](https://arxiv.org/abs/2006.16668)
    """
    shares = _mean_over_tokens(chosen, mask)
    return ops.multiply(probabilities.shape[-1], ops.sum(shares * _mean_over_tokens(probabilities, mask)))


def router_z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over tokens of `logsumexp(logits) ** 2`, which keeps the logits small.

    Args:
        logits: Float `(B, T, E)`.
        mask: Optional bool `(B, T)`, False at tokens to ignore.

    Returns:
        Float scalar.

    Reference:
        [Zoph et al., 2022](https://arxiv.org/abs/2202.08906), equation 5
    """
    return ops.sum(_mean_over_tokens(ops.square(ops.logsumexp(logits, axis=-1, keepdims=True)), mask))


def _mean_over_tokens(x, mask):
    mask = ops.ones(shape_of(x)[:2], "bool") if mask is None else boolean("mask", mask)
    real = ops.cast(ops.expand_dims(mask, -1), x.dtype)
    return ops.sum(x * real, axis=(0, 1)) / ops.maximum(ops.sum(real), 1)
