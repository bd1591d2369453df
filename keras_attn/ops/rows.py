"""Rows of a table."""

import keras
from keras import ops


def rows(table, ids):
    """`table[ids]`, as `keras.ops.take` of ids that are known not to be negative: int `(...)` to `(..., D)`.

    Keras counts negative ids from the end, which takes three operations of every graph.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(ops.convert_to_tensor(table), ids)
    return ops.take(table, ids, axis=0)
