"""Qwen 3: [Yang et al., 2025](https://arxiv.org/abs/2505.09388)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama, qwen2

# The norms of the heads of queries and keys.
HEAD_NORMS = {
    "self_attn.q_norm": "self_attention/attention/query_norm",
    "self_attn.k_norm": "self_attention/attention/key_norm",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(head_dim=128)
    found = qwen2.settings(config)
    options = {"qk_norm": True, "qk_norm_epsilon": found["norm_epsilon"]}
    bias = bool(config("attention_bias", False))
    return {**found, "use_attention_bias": bias, "attention_options": options}


QWEN3 = llama.family("Qwen3ForCausalLM", settings, {**llama.BLOCK, **HEAD_NORMS})
