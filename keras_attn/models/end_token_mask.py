"""Padding mask of texts that stop at their end token."""

from keras import ops

from keras_attn.layers import PaddingMask


class EndTokenMask(PaddingMask):
    """True up to the first end token, and everywhere in a row without one.

    Args:
        end_id: Id of the end token; "largest" for the first of the largest ids of each row, as in the first CLIP.
        pad_id, **kwargs: As `PaddingMask`.

    Call arguments, returns: As `PaddingMask`; a given mask hides further tokens.
    """

    def __init__(self, pad_id=0, end_id="largest", **kwargs):
        super().__init__(pad_id, **kwargs)
        self.end_id = end_id

    def call(self, ids, given=None):
        last = ops.max(ids, axis=1, keepdims=True, initial=0) if self.end_id == "largest" else self.end_id
        ends = ops.cast(ops.equal(ids, last), "int32")
        mask = ops.equal(ops.cumsum(ends, axis=1) - ends, 0)
        return mask if given is None else ops.logical_and(mask, super().call(ids, given))
