"""The last tokens of each row."""

from keras import ops

from keras_attn.ops.arrays import axis_size

# Ids that are not tokens: of a free slot, and of a position before the first token.
FREE, NONE = -1, -2


def last_tokens(ids, mask, count):
    """The last `count` tokens of each row, int32 `(R, count)`; `NONE` before the first token.

    Args:
        ids: Int32 `(R, P)`, right-padded.
        mask: Bool `(R, P)`, False at padding.
        count: A positive integer.
    """
    ids, lengths = ops.cast(ids, "int32"), ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
    slots = ops.expand_dims(ops.arange(axis_size(ids, 1), dtype="int32"), 0)
    last = []
    for back in range(count, 0, -1):
        here = ops.cast(ops.equal(slots, ops.subtract(lengths, back)), "int32")
        last.append(ops.sum(here * (ids - NONE), axis=1, keepdims=True) + NONE)
    return ops.concatenate(last, axis=1)


def append_token(last, tokens):
    """Drops the first column of `last` and appends `tokens`, int32 `(R,)`."""
    return ops.concatenate([last[:, 1:], ops.expand_dims(tokens, 1)], axis=1)
