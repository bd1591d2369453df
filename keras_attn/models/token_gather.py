"""Gathers the vectors of some tokens."""

import keras
from keras import ops

from keras_attn.ops.arrays import reshape, rows, shape_of


@keras.saving.register_keras_serializable(package="keras_attn")
class TokenGather(keras.layers.Layer):
    """`x[b, positions[b, p]]`, or all of `x` without positions.

    Call arguments:
        inputs: Float `(B, T, D)`.
        positions: Optional int32 `(B, P)`, below `T`.

    Returns:
        Float `(B, P, D)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.models.token_gather import TokenGather
    >>> x = np.arange(6, dtype="float32").reshape(1, 3, 2)
    >>> np.asarray(TokenGather()(x, np.array([[2, 0]])))
    array([[[4., 5.],
            [0., 1.]]], dtype=float32)
    """

    def call(self, inputs, positions=None):
        if positions is None:
            return inputs
        batch, length = shape_of(inputs)[:2]
        starts = ops.expand_dims(ops.arange(batch, dtype="int32") * length, -1)
        return rows(reshape(inputs, (-1, inputs.shape[-1])), ops.cast(positions, "int32") + starts)

    def compute_output_shape(self, input_shape, positions_shape=None):
        length = input_shape[1] if positions_shape is None else positions_shape[1]
        return (input_shape[0], length, input_shape[2])

    def compute_output_spec(self, inputs, positions=None):
        shape = self.compute_output_shape(inputs.shape, None if positions is None else positions.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)
