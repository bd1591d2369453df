"""Normalisation of each channel over time."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.ops.arrays import add
from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class TimeNormalization(Configurable, keras.layers.Layer):
    """`(x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta`, with statistics of each channel over time.

    A group norm with one group per channel, over the frames of a row that are not padding.

    Args:
        epsilon: Added to the variance.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`; statistics are computed in float32 or float64.
        inputs_mask: Optional bool `(B, T)`, False at padding.

    Returns:
        Float `(B, T, D)`.

    Reference:
        [Wu and He, 2018](https://arxiv.org/abs/1803.08494)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers.embeddings.time_normalization import TimeNormalization
    >>> np.asarray(TimeNormalization()(np.array([[[1.0], [3.0]]]))).round(2)
    array([[[-1.],
            [ 1.]]], dtype=float32)
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.epsilon = epsilon

    def build(self, inputs_shape: Shape) -> None:
        self.gamma = self.add_weight(name="gamma", shape=inputs_shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=inputs_shape[-1:], initializer="zeros")

    def call(self, inputs: Tensor, inputs_mask: Tensor | None = None) -> Tensor:
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        x = ops.cast(inputs, dtype)
        real = ops.ones_like(x[:, :, :1])
        if inputs_mask is not None:
            real = ops.cast(ops.expand_dims(boolean("inputs_mask", inputs_mask), -1), dtype)
        centred = ops.subtract(x, _mean(x, real))
        x = ops.multiply(centred, ops.rsqrt(add(_mean(ops.square(centred), real), self.epsilon)))
        x = add(ops.multiply(x, ops.cast(self.gamma, dtype)), ops.cast(self.beta, dtype))
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return tuple(inputs_shape)


def _mean(x, weights):
    """The mean over time, weighted by 0 or 1 `(B, T, 1)`."""
    count = ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1)
    return ops.sum(ops.multiply(x, weights), axis=1, keepdims=True) / count
