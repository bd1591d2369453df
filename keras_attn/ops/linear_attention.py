"""Linear attention with a feature map: time and memory are linear in the length."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.ops.arrays import (
    axis_size,
    matmul_transposed,
    repeat_heads,
    reshape,
    reshape_as,
    reshape_rows,
    shape_of,
)
from keras_attn.ops.attention_arguments import AttentionArguments, attention_kernel
from keras_attn.ops.attention_mask import check_attention_mask
from keras_attn.ops.attention_request import AttentionRequest
from keras_attn.ops.chunks import Chunks
from keras_attn.typing import Tensor

_CHUNK = 64
_NOT_LATER = np.tril(np.ones((_CHUNK, _CHUNK), "bool"))
# Normalisers below this count as zero; its inverse square is finite in float32.
_SMALLEST_SUM = 1e-18


@attention_kernel
def linear_attention(q: Tensor, k: Tensor, v: Tensor, arguments: AttentionArguments) -> Tensor | tuple[Tensor, Tensor]:
    """`sum over s of f(q_t) . f(k_s) v_s / sum over s of f(q_t) . f(k_s)` with `f(x) = elu(x) + 1`, in float32.

    Keys are summed before they are multiplied with queries: all keys, or with a causal mask those before each chunk of
    queries, plus the pairs within the chunk. This takes queries and keys as one sequence of ascending positions. With a
    causal mask over other keys (a cache), all pairs are computed, with the same result; only then may the mask have an
    explicit part, such as that of beams in one cache.

    Args:
        q: Float `(B, N, T, H)`.
        k: Float `(B, K, S, H)`; query head `n` reads key/value head `n * K // N`.
        v: Float `(B, K, S, Hv)`.
        arguments: `AttentionArguments`, or their fields as keywords. `mask` may be causal and have padding masks, but
            nothing else except an explicit mask over the keys of a cache. `scale` has no effect, as factors cancel out.
            See `linear_unsupported_reasons` for the others.

    Returns:
        `(B, N, T, Hv)` in `q`'s dtype. A fully masked query returns zeros.

    Raises:
        ValueError: If an argument needs softmax attention.

    Reference:
        [Katharopoulos et al., 2020](https://arxiv.org/abs/2006.16236)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import linear_attention
    >>> x = np.ones((2, 3, 5, 7), "float32")
    >>> tuple(linear_attention(x, x, x).shape)
    (2, 3, 5, 7)
    """
    mask = arguments.mask
    check_attention_mask(mask)
    if reasons := linear_unsupported_reasons(AttentionRequest.of(q, k, arguments)):
        raise ValueError(f"`linear_attention` does not support this call: {'; '.join(reasons)}")
    dtype, num_heads = q.dtype, q.shape[1]
    precision = "float64" if ops.dtype(q) == "float64" else "float32"
    q, k, v = (ops.cast(x, precision) for x in (q, k, v))
    q, k = _features(q), _features(k)
    if mask is not None and mask.key_mask is not None:
        k = ops.where(ops.expand_dims(ops.expand_dims(mask.key_mask, 1), -1), k, ops.zeros_like(k))
    # The sum of the weights is the weighted sum of ones.
    v = ops.concatenate([v, ops.ones_like(v[..., :1])], axis=-1)
    if mask is None or not mask.causal:
        output = _over_all_keys(q, k, v)
    else:
        attend = _pair_by_pair if _has_pairs(mask) else _chunk_by_chunk
        output = attend(q, repeat_heads(k, num_heads), repeat_heads(v, num_heads), mask)
    output = output[..., :-1] / ops.maximum(output[..., -1:], _SMALLEST_SUM)
    if mask is not None and mask.query_mask is not None:
        unmasked = ops.expand_dims(ops.expand_dims(mask.query_mask, 1), -1)
        output = ops.where(unmasked, output, ops.zeros_like(output))
    return ops.cast(output, dtype)


def linear_unsupported_reasons(request):
    """The reasons why `linear_attention` does not support an `AttentionRequest`."""
    mask = request.mask
    asked = {
        "a window": mask is not None and mask.window is not None,
        "an attention_mask": mask is not None and mask.explicit is not None and not _has_pairs(mask),
        "segments": mask is not None and mask.query_segments is not None,
        "a bias": request.has_bias,
        "logit_soft_cap": request.has_soft_cap,
        "sinks": request.has_sinks,
        "dropout of weights": request.dropout,
        "scores": request.return_scores,
    }
    reasons = [
        f"linear attention has no pairs of queries and keys for {name}" for name, wanted in asked.items() if wanted
    ]
    if request.memory_efficient and _has_pairs(mask):
        reasons.append("linear attention computes all pairs with the keys of a cache")
    return reasons


def _has_pairs(mask):
    """Whether all pairs are computed: if a causal mask is over other keys than the queries' own."""
    return mask is not None and mask.causal and mask.query_positions is not mask.key_positions


def _features(x):
    # `elu(x) + 1` would round to zero below -17.
    return ops.where(x > 0, x + 1, ops.exp(ops.minimum(x, 0)))


def _over_all_keys(q, k, v):
    num_heads, num_kv_heads, width = q.shape[1], k.shape[1], q.shape[-1]
    whole, length = q, axis_size(q, 2)
    q = reshape_as(q, whole, 1, num_kv_heads, num_heads // num_kv_heads * length, width)
    output = ops.matmul(q, ops.matmul(ops.transpose(k, (0, 1, 3, 2)), v))
    return reshape_as(output, whole, 1, num_heads, length, v.shape[-1])


def _chunk_by_chunk(q, k, v, mask):
    num_heads, width, value_width = q.shape[1], q.shape[-1], v.shape[-1]
    batch, _, length, _ = shape_of(q)
    chunks = Chunks(length, _CHUNK)
    q, k, v = (chunks.own(reshape_rows(x, batch * num_heads, length, x.shape[-1])) for x in (q, k, v))
    keys = ops.transpose(k, (0, 2, 1))
    weights = ops.matmul(q, keys)
    own = ops.matmul(ops.where(_NOT_LATER, weights, ops.zeros_like(weights)), v)
    sums = reshape(ops.matmul(keys, v), (-1, chunks.count, width * value_width))
    # Shifted, not subtracted: a chunk's own keys must not change even the last bit.
    before = ops.pad(ops.cumsum(sums, axis=1), ((0, 0), (1, 0), (0, 0)))[:, :-1]
    output = own + ops.matmul(q, reshape(before, (-1, width, value_width)))
    return reshape(output, (-1, num_heads, chunks.padded, value_width))[:, :, :length]


def _pair_by_pair(q, k, v, mask):
    weights = matmul_transposed(q, k)
    return ops.matmul(ops.where(mask.pairs, weights, ops.zeros_like(weights)), v)
