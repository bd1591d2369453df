"""Padding mask of prompts that may begin with the padding id."""

from keras import ops

from keras_attn.layers import PaddingMask
from keras_attn.ops.arrays import axis_size


class PromptMask(PaddingMask):
    """True up to the last token that is not `pad_id`, and always at the first token.

    For example, GPT-2 uses a single special token for start, end and padding.

    Args, call arguments, returns: As `PaddingMask`.
    """

    def call(self, ids, given=None):
        if given is not None:
            return super().call(ids, given)
        tokens = ops.cast(ops.not_equal(ids, self.pad_id), "int32")
        before = ops.cumsum(tokens, axis=1) - tokens
        is_first = ops.expand_dims(ops.equal(ops.arange(axis_size(ids, 1), dtype="int32"), 0), 0)
        return ops.logical_or(is_first, ops.less(before, ops.sum(tokens, axis=1, keepdims=True)))
