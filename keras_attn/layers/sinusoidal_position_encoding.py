"""The fixed position code of the Transformer, as a layer."""

import keras
from keras import ops

from keras_attn.layers.position_encoding import PositionEncoding
from keras_attn.ops import sinusoid
from keras_attn.ops.sums import add


@keras.saving.register_keras_serializable(package="keras_attn")
class SinusoidalPositionEncoding(PositionEncoding):
    """Adds `sin(p / base^(2i / D))` to even and `cos(p / base^(2i / D))` to odd channels. No weights, any length.

    Args:
        base: the slowest wave has about `base` times the fastest one's length.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(B, T, D)`.
        positions: optional int32 `(B, T)` or `(1, T)`; `0, 1, ..., T - 1` where None.

    Returns:
        Float `(B, T, D)`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import SinusoidalPositionEncoding
    >>> np.asarray(SinusoidalPositionEncoding()(np.zeros((1, 2, 4), "float32"))).round(2)
    array([[[0.  , 1.  , 0.  , 1.  ],
            [0.84, 0.54, 0.01, 1.  ]]], dtype=float32)
    """

    def __init__(self, base=10000.0, **kwargs):
        super().__init__(**kwargs)
        self.base = base

    def add_to_embeddings(self, x, positions):
        return add(x, ops.cast(sinusoid(positions, x.shape[-1], self.base), x.dtype))
