"""Configs of decoder families: the formats of `transformers` 4 and 5, and settings that are refused."""

import pytest

from keras_attn.layers.base.serialization import serialized
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import family_of

LINEAR = {"rope_type": "linear", "factor": 8.0}
LONG = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
FORMATS = {
    "llama": (
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 8.0}},
        {"rope_parameters": {"rope_theta": 5e5, **LINEAR}},
    ),
    "gemma": ({"hidden_act": "gelu", "hidden_activation": None}, {"hidden_act": "gelu_pytorch_tanh"}),
    "gemma3_text": (
        {"rope_theta": 1e6, "rope_local_base_freq": 5e3, "rope_scaling": LINEAR, "sliding_window_pattern": 2},
        {
            "rope_parameters": {
                "full_attention": {"rope_theta": 1e6, **LINEAR},
                "sliding_attention": {"rope_theta": 5e3, "rope_type": "default"},
            },
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi3": (
        {"rope_scaling": {"type": "su", **LONG}, "partial_rotary_factor": 0.5, "max_position_embeddings": 8192},
        {
            "rope_parameters": {"rope_type": "longrope", "partial_rotary_factor": 0.5, "factor": 2.0, **LONG},
            "original_max_position_embeddings": 4096,
        },
    ),
    "gpt_neox": (
        {"rotary_emb_base": 5e3, "rotary_pct": 0.5},
        {"rope_parameters": {"rope_theta": 5e3, "partial_rotary_factor": 0.5, "rope_type": "default"}},
    ),
    "bloom": ({"n_embed": 32, "num_attention_heads": 2}, {"hidden_size": 32, "n_head": 2}),
}
REFUSED = {
    "llama": {"rope_interleaved": True},
    "mistral": {"partial_rotary_factor": 0.5},
    "qwen2": {"layer_types": ["full_attention"]},
    "gemma2": {"use_bidirectional_attention": True},
    "gemma3_text": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "smollm3": {"no_rope_layers": [1]},
    "gpt_oss": {"quantization_config": {"quant_method": "gptq"}},
    "gpt_neo": {"attention_types": [[["global"], 3]]},
    "gptj": {"rotary": False},
    "opt": {"enable_bias": False},
    "bloom": {"apply_residual_connection_post_layernorm": True},
}


def arguments(model_type, entries):
    family = family_of(model_type)
    sizes = {} if model_type == "bloom" else SIZES
    return family.arguments(CheckpointConfig({**sizes, **entries}), family.heads["causal_lm"], None)


def unnamed(config):
    if isinstance(config, dict):
        return {name: unnamed(value) for name, value in config.items() if name != "name"}
    return [unnamed(value) for value in config] if isinstance(config, list | tuple) else config


@pytest.mark.parametrize("model_type", FORMATS)
def test_formats(model_type):
    old, new = (unnamed(serialized(arguments(model_type, entries))) for entries in FORMATS[model_type])
    assert old == new


@pytest.mark.parametrize("model_type", REFUSED)
def test_refused(model_type):
    (name,) = REFUSED[model_type]
    with pytest.raises(ValueError, match=name):
        arguments(
            model_type, {"num_layers": 2, **REFUSED[model_type]} if model_type == "gpt_neo" else REFUSED[model_type]
        )
