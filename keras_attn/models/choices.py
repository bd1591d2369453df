"""Several texts per example, of which a multiple-choice model scores each by itself."""

import keras
from keras import ops

from keras_attn.ops.arrays import reshape, shape_of


@keras.saving.register_keras_serializable(package="keras_attn")
class MergeChoices(keras.layers.Layer):
    """Merges the axes of examples and choices.

    Call arguments:
        ids: Int32 `(B, C, T)`.
        given: Optional `(B, C, T)`. Defaults to zeros.

    Returns:
        `given`, `(B * C, T)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.models.choices import MergeChoices
    >>> ids = np.ones((2, 3, 5), "int32")
    >>> tuple(MergeChoices()(ids, ids).shape)
    (6, 5)
    """

    def call(self, ids, given=None):
        batch, choices, length = shape_of(ids)
        return reshape(ops.zeros_like(ids) if given is None else given, (batch * choices, length))

    def compute_output_spec(self, ids, given=None):
        return keras.KerasTensor((None, ids.shape[-1]), dtype=(ids if given is None else given).dtype)


@keras.saving.register_keras_serializable(package="keras_attn")
class SplitChoices(keras.layers.Layer):
    """The inverse of `MergeChoices` for one logit per text.

    Call arguments:
        logits: Float `(B * C, 1)`.
        ids: Int32 `(B, C, T)`.

    Returns:
        Float `(B, C)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.models.choices import SplitChoices
    >>> tuple(SplitChoices()(np.ones((6, 1), "float32"), np.ones((2, 3, 5), "int32")).shape)
    (2, 3)
    """

    def call(self, logits, ids):
        return reshape(logits, shape_of(ids)[:2])

    def compute_output_spec(self, logits, ids):
        return keras.KerasTensor(ids.shape[:2], dtype=logits.dtype)
