"""Padding mask of texts that stop at their end token."""

from keras import ops

from keras_attn.layers import PaddingMask


class EndTokenMask(PaddingMask):
    """True up to an end token, and everywhere in a row without one.

    Args:
        end_id: Id of the end token; "largest" for the largest id of each row, as in the first CLIP.
        last: Whether the last end token of a row counts instead of the first.
        pad_id, **kwargs: As `PaddingMask`.

    Call arguments, returns: As `PaddingMask`; a given mask hides further tokens.
    """

    def __init__(self, pad_id=0, end_id="largest", last=False, **kwargs):
        super().__init__(pad_id, **kwargs)
        self.end_id, self.last = end_id, last

    def call(self, ids, given=None):
        end = ops.max(ids, axis=1, keepdims=True, initial=0) if self.end_id == "largest" else self.end_id
        ends = ops.cast(ops.equal(ids, end), "int32")
        limit = ops.maximum(ops.sum(ends, axis=1, keepdims=True), 1) if self.last else 1
        mask = ops.less(ops.cumsum(ends, axis=1) - ends, limit)
        return mask if given is None else ops.logical_and(mask, super().call(ids, given))
