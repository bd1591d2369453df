"""The mask that an upstream layer attached to a tensor."""

from keras_attn import compat


def implicit_mask(x, given=None, mask=None):
    """`given`, or `mask`, or the Keras mask of `x`, or None.

    Keras fills `<argument>_mask` only if a layer is called with two tensors or more. Its wrappers, such as
    `keras.layers.TimeDistributed`, pass a mask to layers with an argument `mask` and attach none to the tensor.
    """
    given = mask if given is None else given
    return compat.keras_mask(x) if given is None else given
