"""Activations by their names in `config.json`."""

from __future__ import annotations

from typing import Any

from keras_attn.ops import hugging_face_activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig


def activation(config: CheckpointConfig, name: str, default: str) -> Any:
    """The activation that an entry of the config names; raises a ValueError that lists the known ones."""
    value = config(name, default)
    try:
        return hugging_face_activation(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"`config.json` must have an activation as {name!r}. {error}") from error
