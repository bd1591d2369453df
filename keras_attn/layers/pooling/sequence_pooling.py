"""Pooling by trained weights of the positions."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.layers.base.projection import Projection
from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.ops.attention_recording import recorder
from keras_attn.ops.masked_softmax import masked_softmax
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class SequencePooling(BasePooling):
    """Computes `sum_t a_t x_t` with `a = softmax_t(x_t w)` over the positions that are not padding, in float32.

    There is no bias, which would not change the softmax. `attention_maps` returns `a` too, as scores `(B, 1, 1, T)`.

    Args:
        kernel_initializer: Initializer of `w`, `(D, 1)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, D)`; zeros for a fully padded row.

    Raises:
        ValueError: If `inputs` is not of rank 3 or the mask does not fit.

    Reference:
        [Hassani et al., 2021](https://arxiv.org/abs/2104.05704), section 3.2

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import SequencePooling
    >>> x = np.array([[[1.0], [3.0], [100.0]]], "float32")
    >>> mask = np.array([[True, True, False]])
    >>> np.asarray(SequencePooling(kernel_initializer="zeros")(x, inputs_mask=mask))
    array([[2.]], dtype=float32)
    """

    def __init__(self, kernel_initializer: Initializer = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_initializer = initializers.get(kernel_initializer)

    def build(self, inputs_shape: Shape) -> None:
        super().build(inputs_shape)
        self.score = Projection(
            "abc,cd->abd",
            (None, 1),
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="score",
        )
        self.score.build(inputs_shape)

    def pool(self, inputs: Tensor, mask: Tensor) -> Tensor:
        weights = masked_softmax(self.score(inputs), None if mask is None else ops.expand_dims(mask, -1), axis=1)
        scores = recorder()
        if scores is not None:
            scores[self.path] = ops.expand_dims(ops.transpose(weights, (0, 2, 1)), 1)
        return ops.cast(ops.sum(weights * ops.cast(inputs, weights.dtype), axis=1), inputs.dtype)
