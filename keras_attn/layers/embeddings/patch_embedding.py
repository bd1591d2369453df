"""Patch embedding of images."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.projection import Projection
from keras_attn.ops.arrays import axis_size, ceil_div, shape_of
from keras_attn.ops.windows import image_patches, overlapping_patches
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class PatchEmbedding(Configurable, keras.layers.Layer):
    """Computes `patch W + b` for every patch of an image, row by row, after an optional class token.

    Same as a convolution, by default with a stride equal to its kernel size, computed as one matrix product; the kernel
    `(rows * columns * C, hidden_dim)` is the flattened convolution kernel. Positions are not added.

    Args:
        patch_size: Integer, or `(rows, columns)` of a patch.
        hidden_dim: Width `D` of the vectors.
        class_token: Whether to prepend a trained vector to the patches.
        padding: "valid" requires images of whole patches; "same" pads other images with zeros on all sides, as
            `keras.layers.Conv2D` does. If the image size is unknown until run time, "valid" crops the excess at the
            bottom and on the right.
        use_bias: Whether the projection has a bias.
        strides: Integer, or `(rows, columns)` from one patch to the next; smaller than the patch, patches overlap, as
            in AST. Only with "valid" padding. Defaults to `patch_size`.
        distillation_token: Whether to put a second trained vector after the class token, as DeiT and AST do.
        kernel_initializer, bias_initializer: Initializers of the projection.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        images: Float `(B, height, width, C)`.

    Returns:
        Float `(B, L, D)`, where `L` is the number of patches, plus one for each of the two tokens.

    Raises:
        ValueError: If an argument or the shape of the images is invalid.

    Reference:
        [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929); distillation
        [Touvron et al., 2021](https://arxiv.org/abs/2012.12877); overlapping patches
        [Gong et al., 2021](https://arxiv.org/abs/2104.01778)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import PatchEmbedding
    >>> embedding = PatchEmbedding(patch_size=4, hidden_dim=16, class_token=True)
    >>> tuple(embedding(np.ones((2, 8, 12, 3), "float32")).shape)
    (2, 7, 16)
    """

    def __init__(
        self,
        patch_size: int | tuple[int, int],
        hidden_dim: int,
        class_token: bool = False,
        padding: str = "valid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        *,
        strides: int | tuple[int, int] | None = None,
        distillation_token: bool = False,
        **kwargs: Any,
    ) -> None:
        check_positive(hidden_dim=hidden_dim)
        patch_size = _pair(patch_size=patch_size)
        strides = None if strides is None else _pair(strides=strides)
        if strides is not None and padding == "same":
            raise ValueError(f"`padding` must be 'valid' with `strides`. Received: padding='same', strides={strides}")
        if distillation_token and not class_token:
            raise ValueError("`distillation_token` must be False without a class token. Received: class_token=False")
        if padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same'. Received: padding={padding!r}")
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.class_token = class_token
        self.padding = padding
        self.use_bias = use_bias
        self.strides, self.distillation_token = strides, distillation_token

    def build(self, images_shape: Shape) -> None:
        self._check_shape(images_shape)
        shape = (1, 1, self.hidden_dim)
        self.token = self.second_token = None
        if self.class_token:
            self.token = self.add_weight(name="class_token", shape=shape, initializer="zeros")
        if self.distillation_token:
            self.second_token = self.add_weight(name="distillation_token", shape=shape, initializer="zeros")
        rows, columns = self.patch_size
        self.projection = Projection(
            "abc,cd->abd",
            (None, self.hidden_dim),
            bias_axes="d" if self.use_bias else None,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            dtype=self.dtype_policy,
            name="projection",
        )
        self.projection.build((None, None, rows * columns * images_shape[-1]))

    def call(self, images: Tensor) -> Tensor:
        self._check_shape(images.shape)
        if self._overlaps:
            x = overlapping_patches(images, self.patch_size, self.strides)
        else:
            x = image_patches(self._whole_patches(images), self.patch_size)
        x = self.projection(x)
        tokens = [ops.cast(token, x.dtype) for token in (self.token, self.second_token) if token is not None]
        if not tokens:
            return x
        tokens = [ops.broadcast_to(token, (axis_size(x, 0), 1, self.hidden_dim)) for token in tokens]
        return ops.concatenate([*tokens, x], axis=1)

    @property
    def _overlaps(self):
        return self.strides not in (None, self.patch_size)

    def _whole_patches(self, images):
        sizes = list(zip(images.shape[1:3], shape_of(images)[1:3], self.patch_size, strict=True))
        if all(known is not None and known % patch == 0 for known, _, patch in sizes):
            return images
        if self.padding == "valid":
            height, width = (size // patch * patch for _, size, patch in sizes)
            return images[:, :height, :width]
        # In ONNX, the remainder of a negative number is negative.
        missing = [(patch - size % patch) % patch for _, size, patch in sizes]
        return ops.pad(images, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))

    def _check_shape(self, shape):
        if len(shape) != 4:
            raise ValueError(f"`images` must have rank 4 (batch, height, width, channels). Received: shape {shape}")
        if self._overlaps:
            if any(s and s < p for s, p in zip(shape[1:3], self.patch_size, strict=True)):
                raise ValueError(
                    f"`images` must be at least as large as patch_size={self.patch_size}. "
                    f"Received: shape {tuple(shape)}"
                )
        elif self.padding == "valid" and any(s and s % p for s, p in zip(shape[1:3], self.patch_size, strict=True)):
            raise ValueError(
                f"`images` must have a height and width that are multiples of patch_size={self.patch_size}, "
                f"or `padding` must be 'same'. Received: shape {tuple(shape)}"
            )

    def compute_output_shape(self, images_shape: Shape) -> Shape:
        self._check_shape(images_shape)
        sizes = zip(images_shape[1:3], self.patch_size, self.strides or self.patch_size, strict=True)
        if self._overlaps:
            counts = [size and (size - patch) // stride + 1 for size, patch, stride in sizes]
        else:
            counts = [size and ceil_div(size, patch) for size, patch, _ in sizes]
        tokens = int(self.class_token) + int(self.distillation_token)
        length = None if None in counts else counts[0] * counts[1] + tokens
        return (images_shape[0], length, self.hidden_dim)


def _pair(**argument):
    """The argument as a pair of positive integers."""
    [(name, value)] = argument.items()
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"`{name}` must be an integer or a pair. Received: {name}={pair}")
    for size in pair:
        check_positive(**{name: size})
    return pair
