"""Rotary position embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_attn.ops.arrays import reshape, shape_of
from keras_attn.ops.rotary_scaling import rotary_frequencies
from keras_attn.typing import Tensor


def rotary(
    x: Tensor,
    positions: Tensor,
    *,
    base: float = 10000.0,
    rotary_dim: int | None = None,
    interleaved: bool = False,
    scaling: Mapping[str, Any] | None = None,
    row_positions: Tensor | None = None,
) -> Tensor:
    """Rotates pairs of channels by an angle proportional to the position.

    Channel pair `i` at position `p` is rotated by `p * base^(-2i / rotary_dim)`, so that the dot product of a rotated
    query and a rotated key depends only on the difference of their positions.

    Args:
        x: Float `(B, N, T, H)`.
        positions: Int or float `(B, T)` or `(1, T)`.
        base: Base of the frequencies.
        rotary_dim: Number of leading channels to rotate, even. Defaults to all.
        interleaved: Whether pair `i` is channels `(2i, 2i + 1)`, as in RoFormer and GPT-J, rather than
            `(i, i + rotary_dim / 2)`, as in Llama and GPT-NeoX.
        scaling: Optional dict that extends the rotations to longer contexts. See `rotary_frequencies`.
        row_positions: Int `(B, S)` or `(1, S)`, positions that include the highest of each row, for a `scaling` that
            depends on the length. Defaults to `positions`.

    Returns:
        Tensor of the shape and dtype of `x`. Angles are computed in float32.

    Reference:
        [Su et al., 2021](https://arxiv.org/abs/2104.09864)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import rotary
    >>> tuple(rotary(np.ones((2, 3, 5, 8), "float32"), np.arange(5)[None]).shape)
    (2, 3, 5, 8)
    """
    width = x.shape[-1]
    rotary_dim = width if rotary_dim is None else rotary_dim
    frequencies, amplitude = rotary_frequencies(
        rotary_dim, base, scaling, positions if row_positions is None else row_positions
    )
    angles = ops.expand_dims(ops.expand_dims(ops.cast(positions, "float32"), 1), -1) * frequencies
    cos, sin = ops.cos(angles), ops.sin(angles)
    if amplitude != 1.0:
        cos, sin = cos * amplitude, sin * amplitude
    cos, sin = ops.cast(cos, x.dtype), ops.cast(sin, x.dtype)
    # A split, since its gradient is one concatenation; that of slices is two padded copies.
    rotated, *rest = [x] if rotary_dim == width else ops.split(x, [rotary_dim], axis=-1)
    if interleaved:
        first, second = rotated[..., ::2], rotated[..., 1::2]
    else:
        first, second = ops.split(rotated, 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    if interleaved:
        turned = [reshape(ops.stack(turned, axis=-1), shape_of(rotated))]
    turned += rest
    return turned[0] if len(turned) == 1 else ops.concatenate(turned, axis=-1)
