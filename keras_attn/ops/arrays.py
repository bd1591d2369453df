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


def ceil_div(size, divisor):
    """`size / divisor`, rounded up: a size and a positive divisor, ints or int scalar tensors, as `axis_size` has them.

    Not `-(-size // divisor)`, as ONNX divides integers towards zero.

    >>> ceil_div(7, 3)
    3
    """
    return (size + (divisor - 1)) // divisor


def conv(x, filters, strides=1, padding="valid"):
    """`keras.ops.conv` with the channels last, also of an empty batch.

    TensorFlow gives an empty batch the shape of `x` on CPUs where it uses oneDNN.

    Args:
        x: Float `(B, *sizes, C)`.
        filters: Float `(*kernel_sizes, C, D)`.
        strides: Int.
        padding: "valid" or "same".

    Example:

    >>> tuple(conv(ops.zeros((0, 5, 3)), ops.zeros((2, 3, 7))).shape)
    (0, 4, 7)
    """
    y = ops.conv(x, filters, strides, padding=padding, data_format="channels_last")
    if x.shape[0] or isinstance(x, keras.KerasTensor) or keras.backend.backend() != "tensorflow":
        return y
    batch, *sizes, _ = shape_of(x)
    if padding == "valid":
        sizes = [size - kernel + 1 for size, kernel in zip(sizes, filters.shape[:-2], strict=True)]
    return reshape_rows(y, batch, *(ceil_div(size, strides) for size in sizes), filters.shape[-1])


def rows(table, ids):
    """`table[ids]`, as `keras.ops.take` for non-negative ids: int `(...)` to `(..., D)`.

    Keras also supports negative ids, which adds three operations to every graph.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(ops.convert_to_tensor(table), ids)
    return ops.take(table, ids, axis=0)


def take_columns(x, columns):
    """`x[b, columns[b, w]]`: `(B, S)` and int32 `(B, W)` to `(B, W)`, as `keras.ops.take_along_axis` on the last axis.

    Columns must be within the row. Keras supports negative ones and more axes, in 48 operations instead of 2.

    >>> import numpy as np
    >>> np.asarray(take_columns(np.array([[5, 6, 7], [8, 9, 4]]), np.array([[2, 0], [1, 1]])))
    array([[7, 5],
           [9, 9]])
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(ops.convert_to_tensor(x), columns, batch_dims=1)
    return ops.take_along_axis(x, columns, axis=1)


def axis_size(x, axis):
    """The length of one axis of `x`: an int if it is known, else a scalar tensor, or `None` for a `KerasTensor`."""
    return _sizes(x, (axis % len(x.shape),))[0]


def shape_of(x):
    """The same as `keras.ops.shape(x)`."""
    return _sizes(x, range(len(x.shape))) if hasattr(x, "shape") else ops.shape(x)


def _sizes(x, axes):
    """The lengths of `axes`. `keras.ops.shape` computes all axes in a graph, and adds an operation if all are known."""
    sizes = tuple(x.shape[axis] for axis in axes)
    if None not in sizes or isinstance(x, keras.KerasTensor) or keras.backend.backend() != "tensorflow":
        return sizes
    import tensorflow as tf

    computed = tf.shape(x)
    return tuple(computed[axis] if size is None else size for axis, size in zip(axes, sizes, strict=True))


def reshape(x, shape):
    """`keras.ops.reshape(x, shape)`, in half the time on tensors of TensorFlow outside of a graph.

    TensorFlow is slow to read a shape that is not a tensor.
    """
    if keras.backend.backend() == "tensorflow" and not isinstance(x, keras.KerasTensor):
        import tensorflow as tf

        if tf.executing_eagerly():
            shape = tf.stack(shape) if any(tf.is_tensor(size) for size in shape) else tf.constant(shape, "int32")
        return tf.reshape(x, shape)
    return ops.reshape(x, shape)


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
    return reshape(x, (rows if isinstance(rows, int) or not _imply_rows(sizes) else -1, *sizes))


def reshape_as(x, like, num_axes, *sizes):
    """`x` reshaped to the first `num_axes` sizes of `like`, which has as many rows, and `sizes`; see `reshape_rows`."""
    is_implied = like.shape[0] is None and _imply_rows((*like.shape[1:num_axes], *sizes))
    rows, *others = (-1, *like.shape[1:num_axes]) if is_implied else _sizes(like, range(num_axes))
    return reshape(x, (rows, *others, *sizes))


def _imply_rows(sizes):
    return all(isinstance(size, int) and size > 0 for size in sizes)


def repeat_heads(x, num_heads):
    """Repeats each of the `K` heads of `x` `(B, K, S, H)` `num_heads / K` times: `(B, num_heads, S, H)`."""
    num_kv_heads, width = x.shape[1], x.shape[-1]
    if num_kv_heads == num_heads:
        return x
    length = axis_size(x, 2)
    y = ops.tile(reshape_as(x, x, 1, num_kv_heads, 1, length * width), (1, 1, num_heads // num_kv_heads, 1))
    return reshape_as(y, x, 1, num_heads, length, width)
