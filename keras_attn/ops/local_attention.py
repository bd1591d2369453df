"""Exact attention within a sliding window, in time and memory linear in the length."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attn.ops.arrays import ceil_div, matmul_transposed, repeat_heads, reshape, reshape_rows, shape_of
from keras_attn.ops.attention_arguments import AttentionArguments, attention_kernel
from keras_attn.ops.attention_mask import check_attention_mask
from keras_attn.ops.chunks import Chunks
from keras_attn.ops.dense_attention import dense_attention
from keras_attn.ops.masked_softmax import mask_logits, softmax, softmax_with_sinks
from keras_attn.typing import Tensor

_SMALLEST_CHUNK = 32
_LARGEST_CHUNK = 128
# Multiple of the window, or of the largest chunk, from which on other kernels take longer.
_LONG_CAUSAL, _LONG = 4, 8
# A position outside of any window.
_FAR = -(2**30)


@attention_kernel
def local_attention(q: Tensor, k: Tensor, v: Tensor, arguments: AttentionArguments) -> Tensor | tuple[Tensor, Tensor]:
    """`dense_attention` under a mask with a window, without computing the pairs outside of the window.

    Queries are split into chunks that attend to the keys of their own chunk and of the neighbours within the window.
    Positions must therefore ascend along the sequence, or along each of its segments. If queries and keys are not one
    sequence (a cache, a memory), or if a bias, an explicit mask, sink tokens or scores need all pairs,
    `dense_attention` is used.

    Args:
        q: Float `(B, N, T, H)`.
        k: Float `(B, K, T, H)`; query head `n` reads key/value head `n * K // N`.
        v: Float `(B, K, T, Hv)`.
        arguments: As for `dense_attention`, with a `mask` that has a `window`.

    Returns:
        `(B, N, T, Hv)` in `q`'s dtype. A fully masked query returns zeros.

    Reference:
        [Beltagy et al., 2020](https://arxiv.org/abs/2004.05150)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import AttentionMask, local_attention
    >>> positions, x = np.arange(5)[None], np.ones((2, 3, 5, 7), "float32")
    >>> mask = AttentionMask(query_positions=positions, key_positions=positions, causal=True, window=2)
    >>> tuple(local_attention(x, x, x, mask=mask).shape)
    (2, 3, 5, 7)
    """
    mask, sinks = arguments.mask, arguments.sinks
    check_attention_mask(mask)
    if arguments.bias is not None or arguments.return_scores or not _is_local(mask):
        return dense_attention(q, k, v, arguments)
    num_heads, width, value_width = q.shape[1], q.shape[-1], v.shape[-1]
    scale = width**-0.5 if arguments.scale is None else arguments.scale
    batch, _, length, _ = shape_of(q)
    distance = mask.window - 1
    chunks = Chunks(length, min(max(mask.window, _SMALLEST_CHUNK), _LARGEST_CHUNK))
    span = ceil_div(distance, chunks.size)
    neighbours = (span, 0 if mask.causal else span)

    q = chunks.own(reshape_rows(q * scale, batch * num_heads, length, width))
    k, v = (reshape_rows(repeat_heads(x, num_heads), batch * num_heads, length, x.shape[-1]) for x in (k, v))
    k, v = (chunks.around(x, *neighbours) for x in (k, v))
    num_keys = k.shape[1]
    logits = reshape(matmul_transposed(q, k), (-1, num_heads, chunks.padded, num_keys))
    if ops.dtype(logits) != "float64":
        logits = ops.cast(logits, "float32")
    allowed = _allowed(mask, chunks, neighbours)
    if (cap := arguments.logit_soft_cap) is not None:
        # As in dense attention: the slope of tanh is NaN where logits are.
        logits = cap * ops.tanh(mask_logits(logits, allowed) / cap)
    logits = mask_logits(logits, allowed)
    weights = ops.cast(softmax(logits) if sinks is None else softmax_with_sinks(logits, sinks), v.dtype)
    if arguments.active_dropout:
        weights = keras.random.dropout(weights, arguments.dropout, seed=arguments.seed)
    output = ops.matmul(reshape(weights, (-1, chunks.size, num_keys)), v)
    output = reshape(output, (-1, num_heads, chunks.padded, value_width))[:, :, :length]
    unmasked = ops.any(allowed, axis=-1, keepdims=True)[:, :, :length]
    if mask.query_mask is not None:
        unmasked = ops.logical_and(unmasked, ops.expand_dims(ops.expand_dims(mask.query_mask, 1), -1))
    return ops.where(unmasked, output, ops.zeros_like(output))


def local_unsupported_reasons(request):
    """The reasons why `local_attention` does not support an `AttentionRequest`."""
    mask, reasons = request.mask, []
    if mask is None or mask.window is None:
        return ["local attention needs a window"]
    if request.has_bias:
        reasons.append("local attention takes no bias")
    if mask.explicit is not None and _is_self_attention(mask):
        reasons.append("local attention takes no attention_mask")
    if mask.sink_tokens:
        reasons.append("local attention has no sink_tokens outside of its window")
    if request.return_scores:
        reasons.append("local attention never computes all scores")
    if request.memory_efficient and not _is_self_attention(mask):
        reasons.append("local attention is dense if queries and keys are not the same sequence")
    return reasons


def local_priority(request):
    """2 if positions are known and ascending, and the length holds so many windows that chunks are faster; else 0."""
    mask, length = request.mask, request.query_shape[2]
    known = isinstance(mask.query_positions, np.ndarray) and length is not None and _is_self_attention(mask)
    if not known or not np.all(np.diff(mask.query_positions) > 0):
        return 0
    return 2 * (length >= (_LONG_CAUSAL if mask.causal else _LONG) * max(mask.window, _LARGEST_CHUNK))


def _is_self_attention(mask):
    return mask.query_positions is mask.key_positions


def _is_local(mask):
    return (
        mask is not None
        and mask.window is not None
        and mask.explicit is None
        and not mask.sink_tokens
        and _is_self_attention(mask)
    )


def _allowed(mask, chunks, neighbours):
    """The keys around its chunk that each query may attend to: bool `(B or 1, 1, padded, keys)`."""

    def pairs(own, around, fill=0):
        queries, keys = chunks.own(_column(own)), chunks.around(_column(around), *neighbours, fill)
        queries = reshape(queries, (-1, chunks.count, chunks.size, 1))
        return queries, reshape(keys, (-1, chunks.count, 1, keys.shape[1]))

    positions = ops.cast(mask.key_positions, "int32")
    if mask.key_mask is not None:
        positions = ops.where(mask.key_mask, positions, _FAR)
    queries, keys = pairs(ops.cast(mask.query_positions, "int32"), positions, _FAR)
    offset = ops.subtract(queries, keys)
    allowed = ops.less(ops.abs(offset), mask.window)
    if mask.causal:
        allowed = ops.logical_and(allowed, ops.greater_equal(offset, 0))
    if mask.query_segments is not None:
        allowed = ops.logical_and(allowed, ops.equal(*pairs(mask.query_segments, mask.key_segments)))
    return reshape(allowed, (-1, 1, chunks.padded, allowed.shape[-1]))


def _column(x):
    return ops.expand_dims(x, -1)
