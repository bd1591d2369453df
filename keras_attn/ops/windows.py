"""Windows of images and sequences, laid out to compute strided convolutions as one matrix product."""

from __future__ import annotations

from keras import ops

from keras_attn.ops.arrays import axis_size, ceil_div, reshape_rows, shape_of
from keras_attn.typing import Tensor


def image_patches(images: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Splits images into non-overlapping patches, row by row.

    Args:
        images: `(B, height, width, C)`.
        patch_size: `(rows, columns)` of a patch, divisors of height and width.

    Returns:
        `(B, height / rows * width / columns, rows * columns * C)`, each patch in the order of the image.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import image_patches
    >>> np.asarray(image_patches(np.arange(8).reshape(1, 2, 4, 1), (2, 2)))
    array([[[0, 1, 4, 5],
            [2, 3, 6, 7]]])
    """
    rows, columns = patch_size
    batch, height, width, channels = shape_of(images)
    across = width // columns
    # At most rank 4, up to which transposes are fast in TFLite; reshapes fuse.
    strips = reshape_rows(images, batch * (height // rows), rows, across, columns * channels)
    patches = ops.transpose(strips, (0, 2, 1, 3))
    return reshape_rows(patches, batch, height // rows * across, rows * columns * channels)


def overlapping_patches(images: Tensor, patch_size: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """The patches at every `strides`-th row and column that lie inside the image, row by row.

    Args:
        images: `(B, height, width, C)`, at least as large as a patch.
        patch_size: `(rows, columns)` of a patch.
        strides: Steps from one patch to the next, `(rows, columns)`.

    Returns:
        `(B, count, rows * columns * C)`, each patch in the order of the image; on each axis there are
        `(size - patch) // stride + 1` patches.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import overlapping_patches
    >>> np.asarray(overlapping_patches(np.arange(6).reshape(1, 2, 3, 1), (2, 2), (1, 1)))
    array([[[0, 1, 3, 4],
            [1, 2, 4, 5]]])
    """
    (rows, columns), (down, across) = patch_size, strides
    batch, height, width, channels = shape_of(images)
    high, wide = (height - rows) // down + 1, (width - columns) // across + 1
    x = ops.concatenate([images[:, :, i : i + (wide - 1) * across + 1 : across] for i in range(columns)], axis=-1)
    x = ops.concatenate([x[:, i : i + (high - 1) * down + 1 : down] for i in range(rows)], axis=-1)
    return reshape_rows(x, batch, high * wide, rows * columns * channels)


def valid_windows(x: Tensor, window: int, stride: int) -> Tensor:
    """The `window` frames from every `stride`-th frame on, as far as they exist.

    Args:
        x: `(B, T, C)`.
        window: Number of frames per window.
        stride: Step from one window to the next.

    Returns:
        `(B, max((T - window) // stride + 1, 0), window * C)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import valid_windows
    >>> np.asarray(valid_windows(np.array([[[1], [2], [3], [4]]]), window=2, stride=2))
    array([[[1, 2],
            [3, 4]]])
    """
    covered = num_windows(axis_size(x, 1), window, stride) * stride
    # At the end, zeros that no window contains make all slices equally long.
    x = ops.pad(x, ((0, 0), (0, stride), (0, 0)))
    return ops.concatenate([x[:, i : i + covered : stride] for i in range(window)], axis=-1)


def num_windows(length, window, stride):
    """`max((length - window) // stride + 1, 0)` of an int or a scalar tensor."""
    if isinstance(length, int):
        return max((length - window) // stride + 1, 0)
    # In ONNX, a division of negative numbers rounds towards zero.
    return (ops.maximum(length - window, -stride) + stride) // stride


def sequence_windows(x: Tensor, window: int, stride: int) -> Tensor:
    """The `window` frames around every `stride`-th frame, with zeros beyond both ends.

    Window `j` is centred at frame `j * stride`: `(window - 1) // 2` frames before it and `window // 2` after. Windows
    do not depend on the amount of padding, unlike with Keras' "same".

    Args:
        x: `(B, T, C)`.
        window: Number of frames per window.
        stride: Step from one window to the next.

    Returns:
        `(B, ceil(T / stride), window * C)`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import sequence_windows
    >>> np.asarray(sequence_windows(np.array([[[1], [2], [3]]]), window=3, stride=2))
    array([[[0, 1, 2],
            [2, 3, 0]]])
    """
    covered = ceil_div(axis_size(x, 1), stride) * stride
    x = ops.pad(x, ((0, 0), ((window - 1) // 2, window // 2), (0, 0)))
    return ops.concatenate([x[:, i : i + covered : stride] for i in range(window)], axis=-1)
