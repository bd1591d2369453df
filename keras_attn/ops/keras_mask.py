"""The mask that Keras attaches to a tensor."""


def keras_mask(x):
    """The Keras mask of `x`, True where it is real, or None.

    A layer attaches it to its outputs, and it is lost as soon as the tensor is converted or computed with.
    """
    return getattr(x, "_keras_mask", None)
