"""Decoder inputs from the tokens that a decoder is to read again."""

import keras
from keras import ops

from keras_attn.ops.pooling import last_token


class ShiftRight(keras.layers.Layer):
    """A start token, and all tokens but the last.

    Args:
        start_id: Id of the start token; "last" for the last token of each row that is not padding, as in mBART.

    Call arguments:
        ids: Int32 `(B, T)`.
        mask: Bool `(B, T)`, False at padding.

    Returns:
        Int32 `(B, T)`.
    """

    def __init__(self, start_id, **kwargs):
        super().__init__(**kwargs)
        self.start_id = start_id

    def call(self, ids, mask):
        if self.start_id == "last":
            first = last_token(ops.expand_dims(ids, -1), mask)
        else:
            first = ops.full_like(ids[:, :1], self.start_id)
        return ops.concatenate([first, ids], axis=1)[:, :-1]

    def compute_output_spec(self, ids, mask):
        return keras.KerasTensor(ids.shape, dtype=ids.dtype)
