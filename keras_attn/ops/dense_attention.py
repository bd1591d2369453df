"""Scaled dot-product attention with the whole `(B, N, T, S)` matrix of logits."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.ops.arrays import add, axis_size, matmul_transposed, reshape_as
from keras_attn.ops.attention_arguments import AttentionArguments, attention_kernel
from keras_attn.ops.attention_mask import block, check_attention_mask
from keras_attn.ops.masked_softmax import MASKING_BIAS, mask_logits, softmax, softmax_with_sinks
from keras_attn.ops.target import current
from keras_attn.typing import Tensor

# From this length on, the products leave out later keys, which a triangular mask hides.
_LONG = 128


@attention_kernel
def dense_attention(q: Tensor, k: Tensor, v: Tensor, arguments: AttentionArguments) -> Tensor | tuple[Tensor, Tensor]:
    """`softmax(scale * q k^T + bias) v` over the pairs that `mask` allows, with the softmax in float32.

    Args:
        q: Float `(B, N, T, H)`.
        k: Float `(B, K, S, H)`; query head `n` reads key/value head `n * K // N`.
        v: Float `(B, K, S, Hv)`.
        arguments: `AttentionArguments`, or their fields as keywords: `mask`, `bias`, `scale`, `dropout`, `seed`,
            `training`, `logit_soft_cap`, `sinks` and `return_scores`.

    Returns:
        `(B, N, T, Hv)` in the dtype of `q`; with `return_scores`, `(output, weights)` with the weights before dropout,
        `(B, N, T, S)`. A fully masked query returns zeros.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762); sinks
        [Xiao et al., 2024](https://arxiv.org/abs/2309.17453)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import dense_attention
    >>> x = np.ones((2, 3, 5, 7), "float32")
    >>> tuple(dense_attention(x, x, x).shape)
    (2, 3, 5, 7)
    """
    mask, sinks = arguments.mask, arguments.sinks
    check_attention_mask(mask)
    is_whole = arguments.active_dropout or arguments.return_scores or not current().has_unequal_loops
    is_long = q.shape[2] is not None and q.shape[2] >= _LONG
    if is_long and not is_whole and mask is not None and mask.is_triangular:
        # In training, the gradients of the products must be summed, so larger blocks are faster.
        size = 2 * _LONG if arguments.training else max(_LONG // 2, min(_LONG, q.shape[2] // 4))
        if q.shape[2] > size:
            return _without_later_keys(q, k, v, arguments, size)
    num_heads, num_kv_heads, width = q.shape[1], k.shape[1], q.shape[-1]
    scale = width**-0.5 if arguments.scale is None else arguments.scale
    # A vector, not a scalar: grappler fuses scalar, product and addend into one oneDNN kernel, which is 250 times as
    # slow if the addend is a bias of shape (1, 1, T, S).
    q = ops.multiply(q, ops.full((width,), scale, dtype=q.dtype))
    # Query heads that share a key head are concatenated along the length axis, which keeps rank 4.
    grouped = num_kv_heads != num_heads
    if grouped:
        whole, length = q, axis_size(q, 2)
        q = reshape_as(q, whole, 1, num_kv_heads, num_heads // num_kv_heads * length, width)
    logits = matmul_transposed(q, k)
    if grouped:
        logits = reshape_as(logits, whole, 1, num_heads, length, axis_size(k, 2))
    if ops.dtype(logits) != "float64":
        logits = ops.cast(logits, "float32")
    allowed, unmasked = (None, None) if mask is None else (mask.pairs, mask.unmasked_queries())
    if (cap := arguments.logit_soft_cap) is not None:
        # Products of what is at padding may overflow to NaN, of which the slope of tanh would be NaN.
        logits = cap * ops.tanh(mask_logits(logits, allowed) / cap)
    if (bias := arguments.bias) is not None:
        # Half precision turns -1e9 into -inf, and a row of those would become NaN.
        logits = add(logits, ops.maximum(ops.cast(bias, logits.dtype), MASKING_BIAS))

    adds = allowed is not None and mask.is_positional and unmasked is None
    if adds and keras.backend.standardize_dtype(q.dtype) != "float16":
        # A sum has a cheaper gradient than `where`. Logits of hidden tokens are finite, unlike those of padding.
        logits = add(logits, ops.where(allowed, 0.0, ops.cast(MASKING_BIAS, logits.dtype)))
    else:
        logits = mask_logits(logits, allowed)
    weights = softmax(logits) if sinks is None else softmax_with_sinks(logits, sinks)
    weights = ops.cast(weights, v.dtype)
    scores = weights
    if arguments.active_dropout:
        weights = keras.random.dropout(weights, arguments.dropout, seed=arguments.seed)
    if grouped:
        weights = reshape_as(weights, whole, 1, num_kv_heads, num_heads // num_kv_heads * length, axis_size(k, 2))
    output = ops.matmul(weights, v)
    if grouped:
        output = reshape_as(output, whole, 1, num_heads, length, v.shape[-1])
    # Zeroing the output instead of the weights touches T x H numbers, not T x S.
    output = _zero_fully_masked(output, unmasked)
    return (output, _zero_fully_masked(scores, unmasked)) if arguments.return_scores else output


def _without_later_keys(q, k, v, arguments, size):
    bias = arguments.bias
    while bias is not None and len(bias.shape) < 4:
        bias = ops.expand_dims(bias, 0)
    outputs = []
    for start in range(0, q.shape[2], size):
        queries = (start, min(size, q.shape[2] - start))
        keys = (0, sum(queries))
        part = {"mask": arguments.mask.block(queries, keys), "bias": block(bias, None, None, queries, keys)}
        heads = (block(x, None, None, where) for x, where in ((q, queries), (k, keys), (v, keys)))
        outputs.append(dense_attention(*heads, arguments, **part, training=False))
    return ops.concatenate(outputs, axis=2)


def _zero_fully_masked(x, unmasked):
    return x if unmasked is None else ops.where(unmasked, x, ops.zeros_like(x))
