"""The vector of a sequence's first token."""

from __future__ import annotations

import keras

from keras_attn.layers.pooling.pooling import Pooling
from keras_attn.ops.pooling import first_token
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class FirstTokenPooling(Pooling):
    """`x_t` of the first position that is not padding, which is where BERT and ViT put their class token.

    Args:
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(B, T, D)`, the tokens.
        inputs_mask: optional bool `(B, T)`, False at padding, on whichever side. Filled from the inputs' Keras mask.
        mask: the same under the name that wrappers such as `keras.layers.TimeDistributed` know.

    Returns:
        Float `(B, D)`, zeros where a row has no first token.

    Raises:
        ValueError: `inputs` has another rank, or `inputs_mask` another shape.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import FirstTokenPooling
    >>> x = np.array([[[1.0], [3.0], [5.0]]], "float32")
    >>> np.asarray(FirstTokenPooling()(x, inputs_mask=np.array([[False, True, True]])))
    array([[3.]], dtype=float32)
    """

    def pool(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return first_token(inputs, mask)
