"""Qwen 2: [Yang et al., 2024](https://arxiv.org/abs/2407.10671)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama
from keras_attn.pretrained.layer_types import SLIDING, layer_options, layer_types, window


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(
        vocab_size=151936, intermediate_size=22016, num_key_value_heads=32, max_position_embeddings=32768
    )
    config.set_defaults(sliding_window=4096)
    config.only("use_mrope", False)
    first = config.size("max_window_layers", 28, minimum=0)
    types = layer_types(config, lambda i: i >= first)
    width = window(config)
    has_window = config("use_sliding_window", False) and width is not None
    return {
        **llama.settings(config),
        **layer_options(types, {SLIDING: {"window": width}} if has_window else {}),
        "use_attention_bias": ["query", "key", "value"],
    }


QWEN2 = llama.family("Qwen2ForCausalLM", settings)
