"""Gated feed-forward networks: GLU and its variants."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.transformer.feed_forward import FeedForward
from keras_attn.typing import Activation


@keras.saving.register_keras_serializable(package="keras_attn")
class GatedFeedForward(FeedForward):
    """`(activation(x W_g + b_g) * (x W_u + b_u)) W_o + b_o`, the same at every position.

    | `activation` | name |
    | --- | --- |
    | `"sigmoid"` | GLU |
    | `"relu"` | ReGLU |
    | `"gelu"` | GeGLU |
    | `"silu"` | SwiGLU |

    Args:
        intermediate_dim: Inner width.
        output_dim: Width of the output. Defaults to that of the input.
        activation: Activation of the gate.
        **kwargs: All other arguments of `FeedForward`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        training: Whether to apply dropout.

    Returns, raises:
        As `FeedForward`: float `(B, T, output_dim)`.

    Reference:
        [Shazeer, 2020](https://arxiv.org/abs/2002.05202)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import GatedFeedForward
    >>> swiglu = GatedFeedForward(64, activation="silu", use_bias=False)
    >>> tuple(swiglu(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    gated = True

    def __init__(
        self, intermediate_dim: int, output_dim: int | None = None, activation: Activation = "silu", **kwargs: Any
    ) -> None:
        super().__init__(intermediate_dim, output_dim, activation, **kwargs)
