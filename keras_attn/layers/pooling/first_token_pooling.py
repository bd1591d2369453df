"""Pooling by the first token."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.argument_checks import check_count, check_positive
from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.ops.pooling import first_token
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class FirstTokenPooling(BasePooling):
    """Returns `x_t` at the first position that is not padding, where BERT and ViT put their class token.

    Args:
        index: Number of such positions to skip: 1 for the distillation token of DeiT.
        num_tokens: Number of positions to average: 2 for AST, which has two such tokens.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding, on either side. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, D)`; zeros for a fully padded row.

    Raises:
        ValueError: If an argument is not a valid count, `inputs` is not of rank 3 or the mask does not fit.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3; two tokens
        [Touvron et al., 2021](https://arxiv.org/abs/2012.12877)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import FirstTokenPooling
    >>> x = np.array([[[1.0], [3.0], [5.0]]], "float32")
    >>> np.asarray(FirstTokenPooling()(x, inputs_mask=np.array([[False, True, True]])))
    array([[3.]], dtype=float32)
    """

    def __init__(self, index: int = 0, num_tokens: int = 1, **kwargs: Any) -> None:
        check_count(index=index)
        check_positive(num_tokens=num_tokens)
        super().__init__(**kwargs)
        self.index, self.num_tokens = index, num_tokens

    def pool(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return first_token(inputs, mask, self.index, self.num_tokens)
