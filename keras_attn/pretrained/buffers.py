"""Memory that arrays and tensors share, so that weights are copied once on their way from a file to a variable."""

from __future__ import annotations

import keras
import numpy as np

from keras_attn.typing import Shape, Tensor

# TensorFlow's kernels need this alignment.
_BYTES = 64


def zeros(shape: Shape, dtype: str = "float32") -> np.ndarray:
    """An aligned array of zeros, whose pages take memory once they are written."""
    size = int(np.prod(shape, dtype="int64")) * np.dtype(dtype).itemsize
    # Only `np.zeros` returns memory that is not written yet.
    memory = np.zeros(size + _BYTES, np.uint8)
    start = -memory.ctypes.data % _BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


def tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; on TensorFlow the same memory, if the array is from `zeros` and has a dtype of NumPy."""
    if keras.backend.backend() != "tensorflow" or array.size == 0:
        return keras.ops.convert_to_tensor(array)
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def shares_memory(dtype: str) -> bool:
    """Whether variables of a dtype can be assigned without a copy."""
    return dtype in ("float32", "float16", "float64")


def zero_initializer(shape: Shape, dtype: str | None = None) -> Tensor:
    """An initializer of zeros that takes no memory."""
    dtype = keras.backend.standardize_dtype(dtype)
    return tensor(zeros(shape, dtype)) if shares_memory(dtype) else keras.ops.zeros(shape, dtype)


def assign(variable: keras.Variable, values: np.ndarray) -> None:
    """Sets a variable to an array of its shape and any layout."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if not shares_memory(dtype):
        variable.assign(values)
        return
    memory = zeros(tuple(variable.shape), dtype)
    np.copyto(memory, values, casting="same_kind")
    variable.assign(tensor(memory))
