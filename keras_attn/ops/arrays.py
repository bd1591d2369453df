"""Basic operations on arrays that `keras.ops` lacks, does in more steps, or gets wrong for some shapes."""

import keras
from keras import ops


def add(x, y):
    """`x + y`, by broadcasting alone and with Keras' rules for dtypes.

    `keras.ops.add` on TensorFlow takes a second operand with a single axis longer than one for a bias, of the last axis
    or of the second: `(B, N) + (N, 1)` is wrong where `B` equals `N`, and `(B, N, T, S) + (1, N, 0, 0)` fails.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops.arrays import add
    >>> np.asarray(add(np.zeros((2, 2)), np.array([[1], [2]])))
    array([[1., 1.],
           [2., 2.]])
    """
    dtype = keras.backend.result_type(*(getattr(operand, "dtype", type(operand)) for operand in (x, y)))
    return ops.cast(x, dtype) + ops.cast(y, dtype)


def matmul_transposed(x, y):
    """`x y^T` of the last two axes: `(..., T, H)` and `(..., S, H)` to `(..., T, S)`.

    As one operation of TensorFlow: XLA would write the transposed matrix out first.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.matmul(x, y, transpose_b=True)
    return ops.matmul(x, ops.swapaxes(y, -1, -2))


def rows(table, ids):
    """`table[ids]`, as `keras.ops.take` of ids that are known not to be negative: int `(...)` to `(..., D)`.

    Keras counts negative ids from the end, which takes three operations of every graph.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(ops.convert_to_tensor(table), ids)
    return ops.take(table, ids, axis=0)


def reshape_rows(x, rows, *sizes):
    """`x` as `(rows, *sizes)`.

    A graph computes `rows` only where it must: -1 costs nothing, but says nothing where another size may be zero.

    Args:
        x: tensor.
        rows: int or scalar tensor.
        *sizes: ints or scalar tensors.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops.arrays import reshape_rows
    >>> tuple(reshape_rows(np.zeros((0, 6)), 2, 0, 3, 2).shape)
    (2, 0, 3, 2)
    """
    is_implied = not isinstance(rows, int) and all(isinstance(size, int) and size > 0 for size in sizes)
    return ops.reshape(x, (-1 if is_implied else rows, *sizes))


def repeat_heads(x, num_heads):
    """Each of the `K` heads of `x` `(B, K, S, H)`, `num_heads / K` times one behind another: `(B, num_heads, S, H)`."""
    num_kv_heads, width = x.shape[1], x.shape[-1]
    if num_kv_heads == num_heads:
        return x
    batch, _, length, _ = ops.shape(x)
    x = reshape_rows(x, batch, num_kv_heads, 1, length * width)
    return reshape_rows(ops.tile(x, (1, 1, num_heads // num_kv_heads, 1)), batch, num_heads, length, width)
