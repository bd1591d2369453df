"""Exact attention that never materialises all logits."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_attn.ops import loops
from keras_attn.ops.attention_arguments import AttentionArguments, attention_kernel
from keras_attn.ops.attention_mask import block, check_attention_mask
from keras_attn.ops.dense_attention import dense_attention
from keras_attn.ops.seeds import FixedSeed
from keras_attn.ops.target import current
from keras_attn.typing import Tensor

_QUERIES = 256


@attention_kernel
def blockwise_attention(q: Tensor, k: Tensor, v: Tensor, arguments: AttentionArguments) -> Tensor:
    """`dense_attention` in memory linear in `T`: computes the logits per block of queries, and again in the gradient.

    On TensorFlow, fully masked blocks of keys are skipped: above the diagonal of a causal mask, outside of a window, in
    other segments and at padding. If a graph cannot loop over blocks of different sizes, the blocks are unrolled and
    none is skipped (under XLA and on other backends), or `dense_attention` computes the call (in exported graphs, and
    under XLA with an unknown length). The result is the same.

    Args:
        q, k, v, arguments: As for `dense_attention`; `return_scores` must be False.

    Returns:
        `(B, N, T, Hv)` in `q`'s dtype. A fully masked query returns zeros.

    Raises:
        ValueError: If `return_scores` is True.

    Reference:
        [Rabe & Staats, 2021](https://arxiv.org/abs/2112.05682); the gradient of
        [Dao et al., 2022](https://arxiv.org/abs/2205.14135)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import blockwise_attention
    >>> x = np.ones((1, 2, 1000, 8), "float32")
    >>> tuple(blockwise_attention(x, x, x).shape)
    (1, 2, 1000, 8)
    """
    check_attention_mask(arguments.mask)
    if arguments.return_scores:
        raise ValueError("`return_scores` must be False: blockwise attention has no scores. Received: True")
    q, k, v = (ops.convert_to_tensor(x) for x in (q, k, v))
    bias, sinks, scale = arguments.bias, arguments.sinks, arguments.scale
    sinks = None if sinks is None else ops.convert_to_tensor(sinks)
    while bias is not None and len(bias.shape) < 4:
        bias = ops.expand_dims(bias, 0)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    arguments = dataclasses.replace(arguments, bias=bias, sinks=sinks, scale=scale)
    is_empty = 0 in (*q.shape[:3], k.shape[2])
    if is_empty or not current().has_unequal_loops or (q.shape[2] is None and not loops.available()):
        return dense_attention(q, k, v, arguments)
    seed = FixedSeed.of(arguments.seed) if arguments.active_dropout else None
    arguments = dataclasses.replace(arguments, seed=seed)
    if not loops.available():
        return _unrolled(q, k, v, arguments)
    from keras_attn.ops.blockwise_loop import attend_in_loop

    return attend_in_loop(q, k, v, arguments)


def _unrolled(q, k, v, arguments):
    outputs, mask, seed = [], arguments.mask, arguments.seed
    for step, start in enumerate(range(0, q.shape[2], _QUERIES)):
        queries = (start, min(_QUERIES, q.shape[2] - start))
        own = dataclasses.replace(
            arguments,
            mask=None if mask is None else mask.block(queries, None),
            bias=block(arguments.bias, None, None, queries),
            dropout=arguments.active_dropout,
            seed=None if seed is None else seed.at(step),
            training=True,
        )
        outputs.append(_recomputed(block(q, None, None, queries), k, v, own))
    return ops.concatenate(outputs, axis=2)


def _recomputed(q, k, v, arguments):
    others = {name: x for name in ("bias", "sinks") if (x := getattr(arguments, name)) is not None}

    def attend(q, k, v, *values):
        return dense_attention(q, k, v, arguments, **dict(zip(others, values, strict=True)))

    return keras.remat(attend)(q, k, v, *others.values())
