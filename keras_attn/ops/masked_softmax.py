"""Softmax under a mask, in float32, with rows of zeros where nothing may be attended."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Tensor

# In the place of a logit: below all others, and finite, so that a row of them, which the caller zeroes, is not NaN.
MASKED_LOGIT = float(np.finfo("float32").min)
# Added to a logit: a sum with one of up to a third of float32's range is finite, and below any other such logit.
MASKING_BIAS = MASKED_LOGIT / 3 * 2


def mask_logits(logits, mask):
    """Puts logits where `mask` is False out of softmax's reach.

    A row that is False throughout becomes uniform under softmax; the caller zeroes it.
    """
    if mask is None:
        return logits
    lowest = np.finfo("float64").min if ops.dtype(logits) == "float64" else np.float32(MASKED_LOGIT)
    return ops.where(mask, logits, ops.convert_to_tensor(lowest, logits.dtype))


def softmax(logits, axis=-1):
    """`keras.ops.softmax`, without its warning that an axis of one sums to one: a lone key is no mistake."""
    if logits.shape[axis] == 1:
        # Chosen, not made: so the logits have a gradient, which is zero, as that of `ops.softmax`.
        return ops.where(False, logits, ops.ones_like(logits))
    return ops.softmax(logits, axis=axis)


def softmax_with_sinks(logits, sinks):
    """As `softmax`, with a further logit a head, `sinks` `(N,)`, whose weight is left out; logits `(B, N, T, S)`."""
    column = ops.reshape(ops.cast(sinks, logits.dtype), (1, -1, 1, 1))
    column = ops.broadcast_to(column, (*ops.shape(logits)[:-1], 1))
    return softmax(ops.concatenate([logits, column], axis=-1))[..., :-1]


def masked_softmax(logits: Tensor, mask: Tensor | None = None, axis: int = -1) -> Tensor:
    """`softmax(logits)` over the positions where `mask` is True, exactly zero elsewhere.

    A row with no True gives zeros, and passes no gradient.

    Args:
        logits: float tensor, computed in float32 whatever its dtype (float64 stays float64).
        mask: optional boolean tensor that broadcasts to `logits`; True = takes part.
        axis: the axis that sums to one.

    Returns:
        Tensor of `logits`' shape, float32 (or float64).

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
