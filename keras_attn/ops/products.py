"""Products of matrices that Keras says in two operations."""

import keras
from keras import ops


def matmul_transposed(x, y):
    """`x y^T` of the last two axes: `(..., T, H)` and `(..., S, H)` to `(..., T, S)`.

    As one operation of TensorFlow: XLA would write the transposed matrix out first.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.matmul(x, y, transpose_b=True)
    return ops.matmul(x, ops.swapaxes(y, -1, -2))
