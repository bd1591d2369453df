"""The mask that an upstream layer attached to a tensor."""


def implicit_mask(x, given=None):
    """`given`, or the Keras mask of `x`, or None.

    Keras fills `<argument>_mask` by name only where a layer is called with two tensors or more.
    """
    return getattr(x, "_keras_mask", None) if given is None else given
