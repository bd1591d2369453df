"""Attention with linear biases (ALiBi)."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn.argument_checks import check_positive, check_positive_number
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ALiBiPositionBias(PositionEncoding):
    """Adds `-slope[n] * |query position - key position|` to the logits of head `n`.

    Slopes decrease geometrically over the heads: `2^(-m n / N)` with `m = alibi_bias_max` for `n = 1 .. N` if `N` is a
    power of two. Otherwise they are those of the next lower power, followed by every other slope of the next higher
    one.

    Args:
        num_heads: Number of query heads `N`.
        alibi_bias_max: `m`, named as in MPT and KerasHub; the slope of the last head is `2^-m`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_heads` is not a positive integer or `alibi_bias_max` is not a positive number.

    Reference:
        [Press et al., 2022](https://arxiv.org/abs/2108.12409)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import ALiBiPositionBias
    >>> positions = np.arange(3)[None]
    >>> np.asarray(ALiBiPositionBias(num_heads=8).logit_bias(positions, positions))[0, 0, 2]
    array([-1. , -0.5, -0. ], dtype=float32)
    """

    def __init__(self, num_heads: int, alibi_bias_max: float = 8.0, **kwargs: Any) -> None:
        check_positive(num_heads=num_heads)
        check_positive_number(alibi_bias_max=alibi_bias_max)
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.alibi_bias_max = alibi_bias_max
        power = 2 ** math.floor(math.log2(num_heads))
        slopes = 2.0 ** (-alibi_bias_max * np.arange(1, power + 1) / power)
        between = 2.0 ** (-alibi_bias_max / 2 * np.arange(1, 2 * (num_heads - power), 2) / power)
        self._slopes = np.concatenate([slopes, between]).astype("float32").reshape(1, num_heads, 1, 1)

    def logit_bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        distance = ops.subtract(ops.expand_dims(key_positions, 1), ops.expand_dims(query_positions, -1))
        return -ops.expand_dims(ops.cast(ops.abs(distance), "float32"), 1) * self._slopes
