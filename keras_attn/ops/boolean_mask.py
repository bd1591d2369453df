"""What a mask is: booleans, True = may attend. Floats are a bias, and turn into the opposite when cast."""

import keras
import numpy as np
from keras import ops


def boolean(name, mask):
    """`mask` as booleans, or None.

    Args:
        name: what the caller calls the mask, for the error message.
        mask: optional bool, or integers of 0 and 1, any shape.

    Raises:
        ValueError: the mask is of floats.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops.boolean_mask import boolean
    >>> np.asarray(boolean("attention_mask", np.array([1, 0])))
    array([ True, False])
    """
    check_boolean(name, mask)
    return None if mask is None else ops.cast(mask, "bool")


def both(mask, other):
    """Where both of two optional boolean masks are True; None if neither is given."""
    if mask is None or other is None:
        return other if mask is None else mask
    return ops.logical_and(mask, other)


def check_boolean(name, mask):
    """Raises a ValueError where a mask, if any, is of floats; symbolic tensors count too."""
    if mask is None:
        return
    dtype = keras.backend.standardize_dtype(mask.dtype if hasattr(mask, "dtype") else np.asarray(mask).dtype)
    if keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"`{name}` must be boolean, True = may attend; what is added to the logits, such as 0 and -inf, "
            f"is passed to an attention layer as `bias=`. Received: {name} of dtype {dtype}"
        )
