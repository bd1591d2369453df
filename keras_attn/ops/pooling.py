"""Pooling of a sequence of vectors to a single one."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.ops.arrays import axis_size, shape_of
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
        return ops.cast(ops.sum(exact, axis=1) / ops.cast(ops.maximum(axis_size(x, 1), 1), exact.dtype), x.dtype)
    counts = ops.cast(ops.expand_dims(boolean("mask", mask), -1), exact.dtype)
    shares = counts / ops.maximum(ops.sum(counts, axis=1, keepdims=True), 1)
    return ops.cast(ops.sum(exact * shares, axis=1), x.dtype)


def masked_max(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The maximum of each channel over the positions with `mask` True.

    Args:
        x: Float `(B, T, D)`.
        mask: Optional bool `(B, T)`, False at positions to ignore.

    Returns:
        `(B, D)` in the dtype of `x`; zeros if no position is True.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import masked_max
    >>> np.asarray(masked_max(np.array([[[1.0], [3.0], [9.0]]]), np.array([[True, True, False]])))
    array([[3.]])
    """
    if mask is None:
        mask = ops.ones(shape_of(x)[:2], dtype="bool")
    mask = ops.expand_dims(boolean("mask", mask), -1)
    lowest = -6e4 if keras.backend.standardize_dtype(x.dtype) == "float16" else -3e38
    # Without `initial`, Keras refuses empty sequences and batches.
    top = ops.max(ops.where(mask, x, ops.full_like(x, lowest)), axis=1, initial=lowest)
    return ops.where(ops.any(mask, axis=1), top, ops.zeros_like(top))


def first_token(x: Tensor, mask: Tensor | None = None, index: int = 0, num_tokens: int = 1) -> Tensor:
    """The vector at the first position with `mask` True, or the mean of a few later ones.

    Args:
        x: Float `(B, T, D)`.
        mask: Optional bool `(B, T)`. Defaults to True everywhere.
        index: Number of such positions to skip.
        num_tokens: Number of positions to average; positions that a row lacks count as zeros.

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
        total = ops.sum(x[:, index : index + num_tokens], axis=1)
    else:
        mask = ops.cast(boolean("mask", mask), "int32")
        counts = ops.cumsum(mask, axis=1) - index
        chosen = ops.logical_and(ops.greater_equal(counts, 1), ops.less_equal(counts, num_tokens))
        chosen = ops.logical_and(ops.equal(mask, 1), chosen)
        total = ops.sum(ops.where(ops.expand_dims(chosen, -1), x, ops.zeros_like(x)), axis=1)
    return total if num_tokens == 1 else total / num_tokens


def last_token(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The vector at the last position with `mask` True.

    Args:
        x: Float `(B, T, D)`.
        mask: Optional bool `(B, T)`. Defaults to True everywhere.

    Returns:
        `(B, D)` in the dtype of `x`; zeros if no position is True.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import last_token
    >>> np.asarray(last_token(np.array([[[1.0], [3.0], [9.0]]]), np.array([[True, True, False]])))
    array([[3.]])
    """
    if mask is None:
        return ops.sum(x[:, -1:], axis=1)
    mask = ops.cast(boolean("mask", mask), "int32")
    is_last = ops.equal(ops.cumsum(mask, axis=1), ops.sum(mask, axis=1, keepdims=True))
    is_last = ops.logical_and(ops.equal(mask, 1), is_last)
    return ops.sum(ops.where(ops.expand_dims(is_last, -1), x, ops.zeros_like(x)), axis=1)


def normalized(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """`x / max(||x||, epsilon)` along the last axis, computed in float32 (float64 stays float64).

    Args:
        x: Float `(..., D)`.
        epsilon: Least divisor.

    Returns:
        The shape and dtype of `x`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import normalized
    >>> np.asarray(normalized(np.array([[3.0, 4.0]])))
    array([[0.6, 0.8]])
    """
    x = ops.convert_to_tensor(x)
    exact = x if x.dtype == "float64" else ops.cast(x, "float32")
    squares = ops.sum(ops.square(exact), axis=-1, keepdims=True)
    # The maximum inside the root keeps gradients finite at zero.
    return ops.cast(ops.multiply(exact, ops.rsqrt(ops.maximum(squares, epsilon**2))), x.dtype)
