"""Activations by their names in `config.json`."""

from __future__ import annotations

from typing import Any

from keras_attn.ops import gelu_tanh
from keras_attn.pretrained.checkpoint_config import CheckpointConfig

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "linear",
}


def activation(config: CheckpointConfig, name: str, default: str) -> Any:
    """The activation that an entry of the config names; raises a ValueError that lists the known ones."""
    value = config(name, default)
    if value not in _ACTIVATIONS:
        raise ValueError(f"`config.json` must have one of {sorted(_ACTIVATIONS)} as {name!r}. Received: {value!r}")
    return _ACTIVATIONS[value]
