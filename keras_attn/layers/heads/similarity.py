"""Similarities of two sets of vectors."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_finite
from keras_attn.layers.base.configurable import Configurable
from keras_attn.ops.arrays import add, matmul_transposed
from keras_attn.ops.pooling import normalized
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Similarity(Configurable, keras.layers.Layer):
    """`exp(s) cos(x_i, y_j) + b`: scaled cosine similarities of all pairs, with a trained `s`, as in CLIP.

    Args:
        use_bias: Whether to add a trained number `b`, as SigLIP does.
        initial_scale: Initial value of `s`. Defaults to that of CLIP, `log(1 / 0.07)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, D)`.
        others: Float `(S, D)`.

    Returns:
        Float `(B, S)`.

    Raises:
        ValueError: If `initial_scale` is not a finite number, or the vectors differ in width.

    Reference:
        [Radford et al., 2021](https://arxiv.org/abs/2103.00020), section 2.3; a bias
        [Zhai et al., 2023](https://arxiv.org/abs/2303.15343)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import Similarity
    >>> images, texts = np.eye(2, 3, dtype="float32"), np.ones((4, 3), "float32")
    >>> tuple(Similarity()(images, texts).shape)
    (2, 4)
    """

    def __init__(self, use_bias: bool = False, initial_scale: float = math.log(1 / 0.07), **kwargs: Any) -> None:
        check_finite(initial_scale=initial_scale)
        super().__init__(**kwargs)
        self.use_bias, self.initial_scale = use_bias, initial_scale

    def build(self, inputs_shape: Shape, others_shape: Shape) -> None:
        initializer = keras.initializers.Constant(self.initial_scale)
        self.logit_scale = self.add_weight(name="logit_scale", shape=(), initializer=initializer)
        self.logit_bias = None
        if self.use_bias:
            self.logit_bias = self.add_weight(name="logit_bias", shape=(), initializer="zeros")

    def call(self, inputs: Tensor, others: Tensor) -> Tensor:
        if inputs.shape[-1] != others.shape[-1]:
            raise ValueError(
                f"`others` must have the width {inputs.shape[-1]} of the inputs. Received: shape {tuple(others.shape)}"
            )
        logits = matmul_transposed(normalized(inputs), normalized(others))
        logits = ops.multiply(logits, ops.exp(ops.cast(self.logit_scale, logits.dtype)))
        return logits if self.logit_bias is None else add(logits, ops.cast(self.logit_bias, logits.dtype))

    def compute_output_shape(self, inputs_shape: Shape, others_shape: Shape) -> Shape:
        return (inputs_shape[0], others_shape[0])
