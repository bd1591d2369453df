"""Gemma 3, the text models: [Gemma Team, 2025](https://arxiv.org/abs/2503.19786)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import gemma, gemma2, llama, qwen3
from keras_attn.pretrained.layer_types import FULL, SLIDING, layer_options, layer_types, window
from keras_attn.pretrained.rope import rope, rope_entry


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(vocab_size=262208, max_position_embeddings=2**17)
    _use_rope_of_each_type(config)
    found = gemma2.common(config)
    pattern = config.size("sliding_window_pattern", config.size("_sliding_window_pattern", 6))
    types = layer_types(config, lambda i: (i + 1) % pattern != 0)
    sliding = {"window": window(config), "position": rope(config, SLIDING)}
    norm = {"qk_norm": True, "qk_norm_epsilon": found["norm_epsilon"]}
    return {
        **found,
        **layer_options(types, {SLIDING: sliding}),
        "attention_options": {**found["attention_options"], **norm},
    }


def _use_rope_of_each_type(config):
    """Rewrites the entries of `transformers` 4 as those of 5."""
    given = {x: value for x, value in rope_entry(config, "rope_parameters").items() if value is not None}
    if set(given) - {FULL, SLIDING} or not all(isinstance(x, dict) for x in given.values()):
        raise ValueError(f"`config.json` must have {FULL!r} and {SLIDING!r} as 'rope_parameters'. Received: {given}")
    theta = {FULL: config.number("rope_theta", 1e6), SLIDING: config.number("rope_local_base_freq", 1e4)}
    scaling = {FULL: rope_entry(config, "rope_scaling"), SLIDING: {}}
    both = {x: {"rope_theta": theta[x], **scaling[x], **given.get(x, {})} for x in theta}
    config.entries |= {"rope_parameters": both, "rope_scaling": None}


BLOCK = {**gemma2.BLOCK, **qwen3.HEAD_NORMS}
GEMMA3_TEXT = llama.family("Gemma3ForCausalLM", settings, gemma.with_offset(BLOCK), gemma.NORM, "Gemma3Text")
