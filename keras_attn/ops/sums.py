"""Sums of arrays of any shape."""

import keras
from keras import ops


def add(x, y):
    """`x + y`, by broadcasting alone and with Keras' rules for dtypes.

    `keras.ops.add` on TensorFlow takes a second operand with a single axis longer than one for a bias, of the last axis
    or of the second: `(B, N) + (N, 1)` is wrong where `B` equals `N`, and `(B, N, T, S) + (1, N, 0, 0)` fails.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops.sums import add
    >>> np.asarray(add(np.zeros((2, 2)), np.array([[1], [2]])))
    array([[1., 1.],
           [2., 2.]])
    """
    dtype = keras.backend.result_type(*(getattr(operand, "dtype", type(operand)) for operand in (x, y)))
    return ops.cast(x, dtype) + ops.cast(y, dtype)
