"""Activations that Keras has no name for."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
def gelu_tanh(x: Tensor) -> Tensor:
    """`x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, the gelu of GPT-2, T5 1.1 and Gemma.

    A layer with `activation=gelu_tanh` saves it. The name "gelu" is the exact form.

    Args:
        x: Float tensor.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        [Hendrycks and Gimpel, 2016](https://arxiv.org/abs/1606.08415)

    Example:

    >>> from keras_attn.ops import gelu_tanh
    >>> gelu_tanh([1.0]).numpy()
    array([0.8412], dtype=float32)
    """
    return ops.gelu(x, approximate=True)
