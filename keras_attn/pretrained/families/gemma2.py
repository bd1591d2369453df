"""Gemma 2: [Gemma Team, 2024](https://arxiv.org/abs/2408.00118)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import gemma, llama
from keras_attn.pretrained.layer_types import SLIDING, layer_options, layer_types, window

BLOCK = {
    **llama.BLOCK,
    "post_attention_layernorm": "self_attention/norm_branch",
    "pre_feedforward_layernorm": "feed_forward/norm_before",
    "post_feedforward_layernorm": "feed_forward/norm_branch",
}


def common(config: CheckpointConfig) -> dict[str, Any]:
    """The settings of Gemma 2 and 3."""
    config.set_defaults(hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, sliding_window=4096)
    config.set_defaults(num_attention_heads=8, num_key_value_heads=4)
    config.only("hidden_activation", "gelu_pytorch_tanh")
    config.ignore("cache_implementation", "hidden_act")
    config.entries.pop("hidden_act", None)
    attention = {
        "scale": config.size("query_pre_attn_scalar", 256) ** -0.5,
        "logit_soft_cap": _soft_cap(config, "attn_logit_softcapping"),
    }
    return {
        **gemma.settings(config),
        "norm": "sandwich",
        "logit_soft_cap": _soft_cap(config, "final_logit_softcapping"),
        "attention_options": attention,
    }


def _soft_cap(config, name):
    return None if config(name, None) is None else config.number(name, 0.0)


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
    found = common(config)
    types = layer_types(config, lambda i: i % 2 == 0)
    return {**found, **layer_options(types, {SLIDING: {"window": window(config)}})}


GEMMA2 = llama.family("Gemma2ForCausalLM", settings, gemma.with_offset(BLOCK), gemma.NORM)
