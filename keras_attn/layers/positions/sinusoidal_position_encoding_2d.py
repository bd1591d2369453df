"""Sinusoidal position encoding of image patches."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_positive
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops import grid_cells, sinusoid
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class SinusoidalPositionEncoding2D(PositionEncoding):
    """Adds the sinusoidal encoding of a patch's column to the first half of its channels, and of its row to the second.

    Each half holds sines, then cosines, with frequencies `base^(-4i / D)`, as in MAE. Position
    `num_prefix + row * width + column` is the patch at `row` and `column`; prefix tokens, such as a class token, are
    unchanged. No weights, any number of rows.

    Args:
        width: Number of patches per image row.
        num_prefix: Number of tokens before the patches.
        base: Approximate ratio of the longest to the shortest wavelength.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`, the prefix and then the patches row by row. `D` must be a multiple of 4.
        positions: Optional int32 `(B, T)` or `(1, T)`. Defaults to `0, 1, ..., T - 1`.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If `width` is not a positive integer, `num_prefix` is not a non-negative integer, or `D` is not a
            multiple of 4.

    Reference:
        [He et al., 2022](https://arxiv.org/abs/2111.06377); [Chen et al., 2021](https://arxiv.org/abs/2104.02057),
        who first used it in a ViT

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import SinusoidalPositionEncoding2D
    >>> patches = np.zeros((1, 1 + 2 * 2, 4), "float32")
    >>> np.asarray(SinusoidalPositionEncoding2D(width=2, num_prefix=1)(patches)).round(2)
    array([[[0.  , 0.  , 0.  , 0.  ],
            [0.  , 1.  , 0.  , 1.  ],
            [0.84, 0.54, 0.  , 1.  ],
            [0.  , 1.  , 0.84, 0.54],
            [0.84, 0.54, 0.84, 0.54]]], dtype=float32)
    """

    def __init__(self, width: int, num_prefix: int = 0, base: float = 10000.0, **kwargs: Any) -> None:
        check_positive(width=width)
        check_count(num_prefix=num_prefix)
        super().__init__(**kwargs)
        self.width, self.num_prefix, self.base = width, num_prefix, base

    def add_to_embeddings(self, x: Tensor, positions: Tensor) -> Tensor:
        dim = x.shape[-1]
        if dim % 4:
            raise ValueError(f"`inputs` must have a multiple of 4 channels. Received: inputs of shape {x.shape}")
        rows, columns, inside = grid_cells(positions, self.width, self.num_prefix)
        halves = [sinusoid(axis, dim // 2, self.base, interleaved=False) for axis in (columns, rows)]
        code = ops.concatenate(halves, axis=-1)
        if self.num_prefix:
            code = code * ops.cast(ops.expand_dims(inside, -1), code.dtype)
        return add(x, ops.cast(code, x.dtype))
