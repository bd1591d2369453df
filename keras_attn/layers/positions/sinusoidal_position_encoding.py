"""Sinusoidal position encoding."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_count
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops import sinusoid
from keras_attn.ops.arrays import add
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class SinusoidalPositionEncoding(PositionEncoding):
    """Adds `sin(p / base^(2i / D))` to even and `cos(p / base^(2i / D))` to odd channels. No weights, any length.

    Marian and Pegasus use `interleaved=False`; M2M100, NLLB and fairseq also use `endpoint=True` and `offset=2`.

    Args:
        base: Approximate ratio of the longest to the shortest wavelength.
        interleaved: Whether sines and cosines alternate, as above; otherwise sines fill the first half of the channels.
        offset: Number added to every position `p`.
        endpoint: Whether the exponents are `i / (D / 2 - 1)` instead of `2i / D`, which makes the ratio exactly `base`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`, or `(B, ..., T, D)`.
        positions: Optional int32 `(B, T)` or `(1, T)`. Defaults to `0, 1, ..., T - 1`.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If `offset` is not a non-negative integer.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import SinusoidalPositionEncoding
    >>> np.asarray(SinusoidalPositionEncoding()(np.zeros((1, 2, 4), "float32"))).round(2)
    array([[[0.  , 1.  , 0.  , 1.  ],
            [0.84, 0.54, 0.01, 1.  ]]], dtype=float32)
    """

    def __init__(
        self, base: float = 10000.0, interleaved: bool = True, offset: int = 0, endpoint: bool = False, **kwargs: Any
    ) -> None:
        check_count(offset=offset)
        super().__init__(**kwargs)
        self.base = base
        self.interleaved = interleaved
        self.offset = offset
        self.endpoint = endpoint

    def add_to_embeddings(self, x: Tensor, positions: Tensor) -> Tensor:
        if self.offset:
            positions = add(positions, self.offset)
        code = sinusoid(positions, x.shape[-1], self.base, self.interleaved, self.endpoint)
        return add(x, ops.cast(code, x.dtype))
