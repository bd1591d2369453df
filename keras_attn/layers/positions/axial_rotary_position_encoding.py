"""Rotary position encoding over the rows and columns of an image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_positive
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops import grid_cells, rotary
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class AxialRotaryPositionEncoding(PositionEncoding):
    """Rotates the first half of each head's channels by the row of a patch, the second half by its column.

    Each half is rotated as in `RotaryPositionEncoding`, with frequencies `base^(-4i / H)`. Position
    `num_prefix + row * width + column` is the patch at `row` and `column`; prefix tokens, such as a class token, are
    not rotated. Pass the layer to an attention layer or a block as `position=`; embeddings pass through it unchanged.

    Args:
        width: Number of patches per image row.
        num_prefix: Number of tokens before the patches.
        base: Base of the frequencies.
        interleaved: Whether channels `(2i, 2i + 1)` of a half form a pair, rather than `(i, i + H / 4)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `width` is not a positive integer, `num_prefix` is not a non-negative integer, or the head width
            is not a multiple of 4.

    Reference:
        [Heo et al., 2024](https://arxiv.org/abs/2403.13298), section 3.2

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AxialRotaryPositionEncoding, MultiHeadAttention
    >>> position = AxialRotaryPositionEncoding(width=3, num_prefix=1)
    >>> attention = MultiHeadAttention(num_heads=2, key_dim=8, position=position)
    >>> tuple(attention(np.ones((5, 1 + 2 * 3, 16), "float32")).shape)
    (5, 7, 16)
    """

    def __init__(
        self, width: int, num_prefix: int = 0, base: float = 10000.0, interleaved: bool = False, **kwargs: Any
    ) -> None:
        check_positive(width=width)
        check_count(num_prefix=num_prefix)
        super().__init__(**kwargs)
        self.width, self.num_prefix = width, num_prefix
        self.base, self.interleaved = base, interleaved

    def rotate(self, heads: Tensor, positions: Tensor) -> Tensor:
        if heads.shape[-1] % 4:
            raise ValueError(f"`key_dim` must be a multiple of 4 for axial rotations. Received: {heads.shape[-1]}")
        rows, columns, _inside = grid_cells(positions, self.width, self.num_prefix)
        halves = zip(ops.split(heads, 2, axis=-1), (rows, columns), strict=True)
        turned = [rotary(half, axis, base=self.base, interleaved=self.interleaved) for half, axis in halves]
        return ops.concatenate(turned, axis=-1)
