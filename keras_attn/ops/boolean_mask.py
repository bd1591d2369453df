"""Boolean masks, True = may attend. Float masks are rejected: cast to bool, 0 and -inf would mean the opposite."""

import keras
import numpy as np
from keras import ops


def boolean(name, mask):
    """`mask` as booleans, or None.

    Args:
        name: Name of the mask, for the error message.
        mask: Optional bool, or integers 0 and 1, any shape.

    Raises:
        ValueError: If the mask is a float tensor.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops.boolean_mask import boolean
    >>> np.asarray(boolean("attention_mask", np.array([1, 0])))
    array([ True, False])
    """
    check_boolean(name, mask)
    return None if mask is None else ops.cast(mask, "bool")


def both(mask, other):
    """The logical and of two optional boolean masks; None if neither is given."""
    if mask is None or other is None:
        return other if mask is None else mask
    return ops.logical_and(mask, other)


def check_boolean(name, mask):
    """Raises a ValueError if an optional mask is a float tensor, also if it is symbolic."""
    if mask is None:
        return
    dtype = keras.backend.standardize_dtype(mask.dtype if hasattr(mask, "dtype") else np.asarray(mask).dtype)
    if keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"`{name}` must be boolean, True = may attend; pass numbers to add to the logits, such as 0 and -inf, "
            f"to an attention layer as `bias=`. Received: {name} of dtype {dtype}"
        )
