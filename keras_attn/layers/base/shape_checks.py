"""Shape checks that several layers and models share."""


def check_sequence(name, shape):
    """Raises a ValueError unless `shape` is `(batch, length, channels)`."""
    if len(shape) != 3:
        raise ValueError(f"`{name}` must have rank 3 (batch, length, channels). Received: shape {tuple(shape)}")


def check_mask(name, mask, shape):
    """Raises a ValueError if a mask is given and does not fit `shape`; axes of None or 1 fit any size."""
    if mask is not None and not fits(mask.shape, shape):
        raise ValueError(f"`{name}` must have shape {tuple(shape)}. Received: shape {tuple(mask.shape)}")


def check_pairs(name, mask, num_queries, num_keys):
    """Raises a ValueError if a mask or bias is given and its last two axes are not queries and keys."""
    if mask is not None:
        check_mask(name, mask, (*mask.shape[:-2], num_queries, num_keys))


def fits(shape, expected):
    """Whether `shape` broadcasts to `expected`; unknown axes fit any size."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b or a == 1 for a, b in zip(shape, expected, strict=True)
    )
