"""The sinusoidal position encoding of the Transformer."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_attn.ops.arrays import reshape, shape_of
from keras_attn.typing import Tensor


def sinusoid(
    positions: Tensor, dim: int, base: float = 10000.0, interleaved: bool = True, endpoint: bool = False
) -> Tensor:
    """`PE[p, 2i] = sin(p / base^(2i / dim))`, `PE[p, 2i + 1] = cos(p / base^(2i / dim))`, in float32.

    Args:
        positions: Int or float, any shape.
        dim: Width of the encoding.
        base: The longest wavelength is about `base` times the shortest.
        interleaved: Whether sines and cosines alternate, as above; otherwise all sines come first.
        endpoint: Whether the exponents are `i / (dim / 2 - 1)` instead of `2i / dim`, so that they end at 1.

    Returns:
        Float32, the shape of `positions` plus `(dim,)`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import sinusoid
    >>> np.asarray(sinusoid(np.arange(2), 4)).round(2)
    array([[0.  , 1.  , 0.  , 1.  ],
           [0.84, 0.54, 0.01, 1.  ]], dtype=float32)
    """
    exponents = np.arange(0, dim, 2, dtype="float64") / dim
    frequencies = base ** -(np.linspace(0, 1, len(exponents)) if endpoint else exponents)
    angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * frequencies.astype("float32")
    waves = [ops.sin(angles), ops.cos(angles)]
    if not interleaved:
        return ops.concatenate(waves, axis=-1)[..., :dim]
    pairs = ops.stack(waves, axis=-1)
    waves = reshape(pairs, (*shape_of(angles)[:-1], 2 * len(frequencies)))
    return waves if dim % 2 == 0 else waves[..., :dim]
