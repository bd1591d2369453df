"""The last tokens of each row."""

from keras import ops

# No token, nor equal to each other: of a free slot, and of a place before the first token.
FREE, NONE = -1, -2


def last_tokens(ids, mask, count):
    """The last `count` tokens of each row, int32 `(R, count)`, `NONE` before the first.

    Args:
        ids: int32 `(R, P)`, right-padded.
        mask: bool `(R, P)`, False at padding.
        count: a positive int.
    """
    ids, lengths = ops.cast(ids, "int32"), ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
    slots = ops.expand_dims(ops.arange(ops.shape(ids)[1], dtype="int32"), 0)
    last = []
    for back in range(count, 0, -1):
        here = ops.cast(ops.equal(slots, ops.subtract(lengths, back)), "int32")
        last.append(ops.sum(here * (ids - NONE), axis=1, keepdims=True) + NONE)
    return ops.concatenate(last, axis=1)


def followed(last, tokens):
    """`last` with `tokens`, int32 `(R,)`, as its last column, and without its first."""
    return ops.concatenate([last[:, 1:], ops.expand_dims(tokens, 1)], axis=1)
