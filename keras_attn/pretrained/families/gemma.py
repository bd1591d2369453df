"""Gemma: [Gemma Team, 2024](https://arxiv.org/abs/2403.08295)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama
from keras_attn.pretrained.rows import offset

_GELU = "gelu_pytorch_tanh"


def with_offset(rows: Any) -> Any:
    """Rows of which those of norms hold the scale minus one."""
    return {name: offset(path, 1.0) if name.endswith("norm") else path for name, path in rows.items()}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(
        vocab_size=256000, hidden_size=3072, intermediate_size=24576, num_hidden_layers=28, head_dim=256
    )
    config.set_defaults(num_attention_heads=16, num_key_value_heads=16, max_position_embeddings=8192)
    config.set_defaults(tie_word_embeddings=True)
    config.only("use_bidirectional_attention", None, False)
    # Early files say "gelu" and mean the other.
    config.only("hidden_act", _GELU, "gelu", "gelu_new")
    config.only("hidden_activation", None, _GELU)
    config.entries["hidden_act"] = _GELU
    return {**llama.settings(config), "scale_embeddings": True}


NORM = offset("decoder/final_norm", 1.0)
GEMMA = llama.family("GemmaForCausalLM", settings, with_offset(llama.BLOCK), NORM)
