"""Pooling by the last token."""

from __future__ import annotations

import keras

from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.ops.pooling import last_token
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class LastTokenPooling(BasePooling):
    """Returns `x_t` at the last position that is not padding, where CLIP has its end token and GPT its last word.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding, on either side. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, D)`; zeros for a fully padded row.

    Raises:
        ValueError: If `inputs` is not of rank 3 or the mask does not fit.

    Reference:
        [Radford et al., 2021](https://arxiv.org/abs/2103.00020), section 2.4

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import LastTokenPooling
    >>> x = np.array([[[1.0], [3.0], [5.0]]], "float32")
    >>> np.asarray(LastTokenPooling()(x, inputs_mask=np.array([[True, True, False]])))
    array([[3.]], dtype=float32)
    """

    def pool(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return last_token(inputs, mask)
