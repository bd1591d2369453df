"""Activations that Keras has no name for, and the names that Hugging Face's configs use."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.typing import Activation, Tensor


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


@keras.saving.register_keras_serializable(package="keras_attn")
def quick_gelu(x: Tensor) -> Tensor:
    """`x sigmoid(1.702 x)`, the gelu of CLIP and GPT-OSS.

    Args:
        x: Float tensor.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        [Hendrycks and Gimpel, 2016](https://arxiv.org/abs/1606.08415)

    Example:

    >>> from keras_attn.ops import quick_gelu
    >>> quick_gelu([1.0]).numpy()
    array([0.8458], dtype=float32)
    """
    return ops.multiply(x, ops.sigmoid(ops.multiply(x, 1.702)))


@keras.saving.register_keras_serializable(package="keras_attn")
def squared_relu(x: Tensor) -> Tensor:
    """`max(x, 0)^2`.

    Args:
        x: Float tensor.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        [So et al., 2021](https://arxiv.org/abs/2109.08668)

    Example:

    >>> from keras_attn.ops import squared_relu
    >>> squared_relu([-1.0, 3.0]).numpy()
    array([0., 9.], dtype=float32)
    """
    return ops.square(ops.relu(x))


_HUGGING_FACE = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": "relu",
    "relu2": squared_relu,
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "linear": "linear",
}


def hugging_face_activation(name: str) -> Activation:
    """The value of `activation=` for an activation of a Hugging Face config, such as its `hidden_act`.

    Args:
        name: "gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2", "silu", ...

    Returns:
        A name that Keras knows, or a function that layers save.

    Raises:
        ValueError: If the name is unknown.

    Example:

    >>> from keras_attn.ops import hugging_face_activation
    >>> hugging_face_activation("gelu_new").__name__, hugging_face_activation("swish")
    ('gelu_tanh', 'silu')
    """
    if name not in _HUGGING_FACE:
        names = ", ".join(map(repr, sorted(_HUGGING_FACE)))
        raise ValueError(f"`name` must be one of {names}. Received: name={name!r}")
    return _HUGGING_FACE[name]
