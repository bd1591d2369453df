"""Basic operations that `keras.ops` lacks, computes in more steps, or gets wrong for some shapes."""

import keras
from keras import ops


def add(x, y):
    """`x + y` with plain broadcasting and Keras' dtype promotion.

    On TensorFlow, `keras.ops.add` treats a second operand with a single axis longer than one as a bias over the last or
    the second axis: `(B, N) + (N, 1)` is wrong if `B` equals `N`, and `(B, N, T, S) + (1, N, 0, 0)` fails.

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
    """`x y^T` over the last two axes: `(..., T, H)` and `(..., S, H)` to `(..., T, S)`.

    A single TensorFlow operation, since XLA would otherwise materialise the transposed matrix.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.matmul(x, y, transpose_b=True)
    return ops.matmul(x, ops.swapaxes(y, -1, -2))


def rows(table, ids):
    """`table[ids]`, as `keras.ops.take` for non-negative ids: int `(...)` to `(..., D)`.

    Keras also supports negative ids, which adds three operations to every graph.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(ops.convert_to_tensor(table), ids)
    return ops.take(table, ids, axis=0)


def reshape_rows(x, rows, *sizes):
    """`x` reshaped to `(rows, *sizes)`.

    Uses -1 for `rows` if possible, which saves computing it in a graph; it is ambiguous if another size may be zero.

    Args:
        x: Tensor.
        rows: Int or scalar tensor.
        *sizes: Ints or scalar tensors.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops.arrays import reshape_rows
    >>> tuple(reshape_rows(np.zeros((0, 6)), 2, 0, 3, 2).shape)
    (2, 0, 3, 2)
    """
    is_implied = not isinstance(rows, int) and all(isinstance(size, int) and size > 0 for size in sizes)
    return ops.reshape(x, (-1 if is_implied else rows, *sizes))


def repeat_heads(x, num_heads):
    """Repeats each of the `K` heads of `x` `(B, K, S, H)` `num_heads / K` times: `(B, num_heads, S, H)`."""
    num_kv_heads, width = x.shape[1], x.shape[-1]
    if num_kv_heads == num_heads:
        return x
    batch, _, length, _ = ops.shape(x)
    x = reshape_rows(x, batch, num_kv_heads, 1, length * width)
    return reshape_rows(ops.tile(x, (1, 1, num_heads // num_kv_heads, 1)), batch, num_heads, length, width)
