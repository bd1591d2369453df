"""SmolLM 3: [Bakouch et al., 2025](https://huggingface.co/blog/smollm3)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama
from keras_attn.pretrained.layer_types import SLIDING, layer_types, window


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(vocab_size=128256, hidden_size=2048, num_hidden_layers=36, num_attention_heads=16)
    config.set_defaults(num_key_value_heads=4, max_position_embeddings=32768, rope_theta=2e6, tie_word_embeddings=True)
    found = llama.settings(config)
    count, interval = found["num_layers"], config.size("no_rope_layer_interval", 4)
    rotated = config("no_rope_layers", None) or [int((i + 1) % interval != 0) for i in range(count)]
    if not isinstance(rotated, list) or len(rotated) < count or not all(x in (0, 1) for x in rotated):
        raise ValueError(f"`config.json` must have {count} numbers, 0 or 1, as 'no_rope_layers'. Received: {rotated!r}")
    width = window(config) if config("use_sliding_window", False) else None
    types = layer_types(config, lambda i: not rotated[i])
    config.ignore("max_window_layers")
    options = [{} if rotates else {"position": None} for rotates in rotated[:count]]
    if width is not None:
        options = [{**x, "window": width} if kind == SLIDING else x for x, kind in zip(options, types, strict=True)]
    return {**found, "layer_options": options}


SMOLLM3 = llama.family("SmolLM3ForCausalLM", settings)
