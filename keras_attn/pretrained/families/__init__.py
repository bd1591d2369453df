"""The families of checkpoints by `model_type`, each in a module of its own."""

from __future__ import annotations

import importlib
from typing import Any

from keras_attn.pretrained.family import Family

_MODULES = {
    "clip": "clip",
    "siglip": "clip",
    "audio-spectrogram-transformer": "vit",
    "deit": "vit",
    "vit": "vit",
    "wav2vec2": "wav2vec2",
    "albert": "albert",
    "bart": "bart",
    "bert": "bert",
    "bloom": "bloom",
    "camembert": "roberta",
    "deberta-v2": "deberta_v2",
    "distilbert": "distilbert",
    "electra": "electra",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "gpt_neo": "gpt_neo",
    "gpt_neox": "gpt_neox",
    "gpt_oss": "gpt_oss",
    "gptj": "gptj",
    "llama": "llama",
    "m2m_100": "marian",
    "marian": "marian",
    "mbart": "bart",
    "mistral": "mistral",
    "mixtral": "mixtral",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "mt5": "t5",
    "olmo2": "olmo2",
    "opt": "opt",
    "pegasus": "marian",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "roberta": "roberta",
    "smollm3": "smollm3",
    "t5": "t5",
    "whisper": "whisper",
    "xlm-roberta": "roberta",
}


def family_of(model_type: Any) -> Family:
    """The family of a `model_type`; raises a ValueError that lists all of them if it is unknown."""
    if not isinstance(model_type, str) or model_type not in _MODULES:
        raise ValueError(
            f"`config.json` must have one of these as 'model_type': {sorted(_MODULES)}. Received: {model_type!r}"
        )
    module = importlib.import_module(f"keras_attn.pretrained.families.{module_of(model_type)}")
    return getattr(module, model_type.upper().replace("-", "_"))


def module_of(model_type: str) -> str:
    """The name of the module that holds the family of a `model_type`."""
    return _MODULES[model_type]


def model_types() -> list[str]:
    """All known values of `model_type`."""
    return sorted(_MODULES)
