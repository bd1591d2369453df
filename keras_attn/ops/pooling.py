"""Pooling of a sequence of vectors to a single one."""

from __future__ import annotations

from keras import ops

from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Tensor


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over the positions with `mask` True, summed in float32 (float64 stays float64).

    Args:
        x: Float `(B, T, D)`.
        mask: Optional bool `(B, T)`, False at positions to ignore.

    Returns:
        `(B, D)` in the dtype of `x`; zeros if no position is True.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import masked_mean
    >>> np.asarray(masked_mean(np.array([[[1.0], [3.0], [9.0]]]), np.array([[True, True, False]])))
    array([[2.]])
    """
    x = ops.convert_to_tensor(x)
    exact = x if x.dtype == "float64" else ops.cast(x, "float32")
    if mask is None:
        return ops.cast(ops.sum(exact, axis=1) / ops.cast(ops.maximum(ops.shape(x)[1], 1), exact.dtype), x.dtype)
    counts = ops.cast(ops.expand_dims(boolean("mask", mask), -1), exact.dtype)
    shares = counts / ops.maximum(ops.sum(counts, axis=1, keepdims=True), 1)
    return ops.cast(ops.sum(exact * shares, axis=1), x.dtype)


def first_token(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The vector at the first position with `mask` True.

    Args:
        x: Float `(B, T, D)`.
        mask: Optional bool `(B, T)`. Defaults to True everywhere.

    Returns:
        `(B, D)` in the dtype of `x`; zeros if no position is True.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import first_token
    >>> np.asarray(first_token(np.array([[[1.0], [3.0], [9.0]]]), np.array([[False, True, True]])))
    array([[3.]])
    """
    if mask is None:
        # A sum, since indexing fails for empty sequences.
        return ops.sum(x[:, :1], axis=1)
    mask = ops.cast(boolean("mask", mask), "int32")
    is_first = ops.logical_and(ops.equal(mask, 1), ops.equal(ops.cumsum(mask, axis=1), 1))
    return ops.sum(ops.where(ops.expand_dims(is_first, -1), x, ops.zeros_like(x)), axis=1)
