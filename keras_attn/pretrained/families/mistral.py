"""Mistral: [Jiang et al., 2023](https://arxiv.org/abs/2310.06825)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama
from keras_attn.pretrained.layer_types import window


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(
        num_key_value_heads=8, intermediate_size=14336, max_position_embeddings=2**17, sliding_window=4096
    )
    return {**llama.settings(config), "window": window(config)}


MISTRAL = llama.family("MistralForCausalLM", settings)
