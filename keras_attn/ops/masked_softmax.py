"""Masked softmax in float32; fully masked rows are zero. Kernels: see `unmasked_queries` in `attention_mask.py`."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.ops.arrays import reshape, shape_of
from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Tensor

# Replaces masked logits: below all others, and finite, so that the softmax of a fully masked row is not NaN.
MASKED_LOGIT = float(np.finfo("float32").min)
# Added to masked logits: for logits within a third of float32's range, the sum is finite and below any other logit.
MASKING_BIAS = MASKED_LOGIT / 3 * 2


def mask_logits(logits, mask):
    """Replaces logits by `MASKED_LOGIT` at positions that are False in `mask`.

    The softmax of a fully masked row is uniform; the kernel zeroes it, see `AttentionMask.unmasked_queries`.
    """
    if mask is None:
        return logits
    lowest = np.finfo("float64").min if ops.dtype(logits) == "float64" else np.float32(MASKED_LOGIT)
    return ops.where(mask, logits, ops.convert_to_tensor(lowest, logits.dtype))


def softmax(logits, axis=-1):
    """`keras.ops.softmax` without its warning about an axis of size one: a single key is valid."""
    if logits.shape[axis] == 1:
        # `where` keeps a zero gradient for the logits, as `ops.softmax` does.
        return ops.where(False, logits, ops.ones_like(logits))
    return ops.softmax(logits, axis=axis)


def softmax_with_sinks(logits, sinks):
    """As `softmax` of logits `(B, N, T, S)`, with one more logit per head, `sinks` `(N,)`, dropped from the result."""
    column = reshape(ops.cast(sinks, logits.dtype), (1, -1, 1, 1))
    column = ops.broadcast_to(column, (*shape_of(logits)[:-1], 1))
    return softmax(ops.concatenate([logits, column], axis=-1))[..., :-1]


def masked_softmax(logits: Tensor, mask: Tensor | None = None, axis: int = -1) -> Tensor:
    """`softmax(logits)` over the positions with `mask` True; exactly zero elsewhere.

    Fully masked rows are zero and pass no gradient.

    Args:
        logits: Float tensor, cast to float32 (float64 stays float64).
        mask: Optional bool that broadcasts to `logits`; True = takes part.
        axis: Axis of the softmax.

    Returns:
        Tensor of the shape of `logits`, float32 (or float64).

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import masked_softmax
    >>> np.asarray(masked_softmax(np.zeros((2, 2), "float32"), np.array([[True, False], [False, False]])))
    array([[1., 0.],
           [0., 0.]], dtype=float32)
    """
    logits = ops.convert_to_tensor(logits)
    if ops.dtype(logits) != "float64":
        logits = ops.cast(logits, "float32")
    mask = boolean("mask", mask)
    weights = softmax(mask_logits(logits, mask), axis)
    if mask is None:
        return weights
    return ops.where(ops.any(mask, axis=axis, keepdims=True), weights, ops.zeros_like(weights))
