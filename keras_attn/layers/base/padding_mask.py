"""The padding mask of token ids."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.ops.boolean_mask import boolean, check_boolean
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class PaddingMask(Configurable, keras.layers.Layer):
    """Returns `ids != pad_id`, or the given mask.

    Args:
        pad_id: The id of padding.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        ids: Int32 `(B, T)`.
        given: Optional bool `(B, T)`, returned if not None.

    Returns:
        Bool `(B, T)`, False at padding.

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import PaddingMask
    >>> np.asarray(PaddingMask()(np.array([[5, 7, 0]])))
    array([[ True,  True, False]])
    """

    def __init__(self, pad_id: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pad_id = pad_id

    def call(self, ids: Tensor, given: Tensor | None = None) -> Tensor:
        return ops.not_equal(ids, self.pad_id) if given is None else boolean("given", given)

    def compute_output_shape(self, input_shape: Shape, given_shape: Shape | None = None) -> Shape:
        return tuple(input_shape)

    def compute_output_spec(self, ids: Tensor, given: Tensor | None = None) -> keras.KerasTensor:
        check_boolean("given", given)
        return keras.KerasTensor(ids.shape, dtype="bool")
