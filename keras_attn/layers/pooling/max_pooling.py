"""Max pooling."""

from __future__ import annotations

import keras

from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.ops.pooling import masked_max
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class MaxPooling(BasePooling):
    """Returns the maximum of each channel over the positions that are not padding.

    Args:
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
        [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), section 3

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import MaxPooling
    >>> x = np.array([[[1.0], [3.0], [100.0]]], "float32")
    >>> mask = np.array([[True, True, False]])
    >>> np.asarray(MaxPooling()(x, inputs_mask=mask))
    array([[3.]], dtype=float32)
    """

    def pool(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return masked_max(inputs, mask)
