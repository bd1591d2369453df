"""Scaled dot-product attention that holds the whole `(B, N, T, S)` matrix of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.ops.arrays import add, matmul_transposed, reshape_rows
from keras_attn.ops.attention_mask import block, check_attention_mask
from keras_attn.ops.masked_softmax import MASKING_BIAS, mask_logits, softmax, softmax_with_sinks
from keras_attn.ops.target import current
from keras_attn.typing import Seed, Tensor

if TYPE_CHECKING:
    from keras_attn.ops.attention_mask import AttentionMask


# From this length on, later keys are left out of the products, which is known to be right for triangular masks.
_LONG = 128


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
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
) -> Tensor | tuple[Tensor, Tensor]:
    """`softmax(scale * q k^T + bias) v`, softmax in float32, over the pairs that `mask` admits.

    Args:
        q: float `(B, N, T, H)`.
        k: float `(B, K, S, H)`; query head `n` reads key/value head `n * K // N`.
        v: float `(B, K, S, Hv)`.
        mask: optional `keras_attn.ops.AttentionMask`.
        bias: optional float that broadcasts to `(B, N, T, S)`, added to the logits.
        scale: factor of the logits; `H ** -0.5` where None.
        dropout: rate at which attention weights are dropped in training.
        seed: int or `keras.random.SeedGenerator` for the dropout.
        training: whether dropout is on.
        logit_soft_cap: optional `c`: logits become `c * tanh(logits / c)` before bias and mask.
        sinks: optional float `(N,)`: a logit a head that takes part in the softmax and attends to nothing.
        return_scores: whether to return the weights as well.

    Returns:
        `(B, N, T, Hv)` in `q`'s dtype; with `return_scores`, `(output, weights)`, weights `(B, N, T, S)` as they are
        before dropout. A query that may attend to nothing gives zeros.

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
    check_attention_mask(mask)
    dropping = bool(dropout and training)
    is_whole = dropping or return_scores or not current().has_unequal_loops
    is_long = q.shape[2] is not None and q.shape[2] >= _LONG
    if is_long and not is_whole and mask is not None and mask.is_triangular:
        # In training every product has gradients to sum, so fewer pay.
        size = 2 * _LONG if training else max(_LONG // 2, min(_LONG, q.shape[2] // 4))
        if q.shape[2] > size:
            settings = {"scale": scale, "logit_soft_cap": logit_soft_cap, "sinks": sinks}
            return _without_later_keys(q, k, v, mask, bias, size, settings)
    num_heads, num_kv_heads, width = q.shape[1], k.shape[1], q.shape[-1]
    scale = width**-0.5 if scale is None else scale
    # A vector, not a scalar: grappler fuses scalar, product and addend into one oneDNN kernel, which takes 250 times
    # as long where the addend is a bias of shape (1, 1, T, S).
    q = ops.multiply(q, ops.full((width,), scale, dtype=q.dtype))
    # Query heads that share a key head line up behind one another on the length axis, which keeps rank 4.
    grouped = num_kv_heads != num_heads
    batch, length = ops.shape(q)[0], ops.shape(q)[2]
    if grouped:
        q = reshape_rows(q, batch, num_kv_heads, num_heads // num_kv_heads * length, width)
    logits = matmul_transposed(q, k)
    if grouped:
        logits = reshape_rows(logits, batch, num_heads, length, ops.shape(k)[2])
    if ops.dtype(logits) != "float64":
        logits = ops.cast(logits, "float32")
    if logit_soft_cap is not None:
        logits = logit_soft_cap * ops.tanh(logits / logit_soft_cap)
    if bias is not None:
        # A half-precision policy turns -1e9 into -inf, and a row of those would be NaN.
        logits = add(logits, ops.maximum(ops.cast(bias, logits.dtype), MASKING_BIAS))

    allowed, live = (None, None) if mask is None else (mask.pairs, mask.live_queries())
    adds = allowed is not None and mask.is_positional and live is None
    if adds and keras.backend.standardize_dtype(q.dtype) != "float16":
        # A sum passes its gradient on as it is, and a key of an other token is finite, unlike what stands in padding.
        logits = add(logits, ops.where(allowed, 0.0, ops.cast(MASKING_BIAS, logits.dtype)))
    else:
        logits = mask_logits(logits, allowed)
    weights = softmax(logits) if sinks is None else softmax_with_sinks(logits, sinks)
    weights = ops.cast(weights, v.dtype)
    scores = weights
    if dropping:
        weights = keras.random.dropout(weights, dropout, seed=seed)
    if grouped:
        weights = reshape_rows(weights, batch, num_kv_heads, num_heads // num_kv_heads * length, ops.shape(k)[2])
    output = ops.matmul(weights, v)
    if grouped:
        output = reshape_rows(output, batch, num_heads, length, v.shape[-1])
    # Zeroing the output instead of the weights touches T x H numbers, not T x S.
    output = _zero_dead(output, live)
    return (output, _zero_dead(scores, live)) if return_scores else output


def _without_later_keys(q, k, v, mask, bias, size, settings):
    while bias is not None and len(bias.shape) < 4:
        bias = ops.expand_dims(bias, 0)
    outputs = []
    for start in range(0, q.shape[2], size):
        queries = (start, min(size, q.shape[2] - start))
        keys = (0, sum(queries))
        part = {"mask": mask.block(queries, keys), "bias": block(bias, None, None, queries, keys)}
        heads = (block(x, None, None, where) for x, where in ((q, queries), (k, keys), (v, keys)))
        outputs.append(dense_attention(*heads, **part, **settings))
    return ops.concatenate(outputs, axis=2)


def _zero_dead(x, live):
    return x if live is None else ops.where(live, x, ops.zeros_like(x))
