"""The families of checkpoints by `model_type`, each in a module of its own."""

from __future__ import annotations

import importlib
from typing import Any

from keras_attn.pretrained.family import Family

_MODULES = {
    "bart": "bart",
    "bert": "bert",
    "gpt2": "gpt2",
    "llama": "llama",
    "m2m_100": "marian",
    "marian": "marian",
    "mbart": "bart",
    "mt5": "t5",
    "pegasus": "marian",
    "t5": "t5",
    "whisper": "whisper",
}


def family_of(model_type: Any) -> Family:
    """The family of a `model_type`; raises a ValueError that lists all of them if it is unknown."""
    if not isinstance(model_type, str) or model_type not in _MODULES:
        raise ValueError(
            f"`config.json` must have one of these as 'model_type': {sorted(_MODULES)}. Received: {model_type!r}"
        )
    module = importlib.import_module(f"keras_attn.pretrained.families.{_MODULES[model_type]}")
    return getattr(module, model_type.upper().replace("-", "_"))


def model_types() -> list[str]:
    """All known values of `model_type`."""
    return sorted(_MODULES)
