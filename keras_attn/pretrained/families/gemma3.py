"""Gemma 3: [Gemma Team, 2025](https://arxiv.org/abs/2503.19786).

A multi-modal folder is read as its text model, without the encoder of images, and written as a folder of that.
"""

import dataclasses
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


_TEXT, _OF_IMAGES = "text_config", {"vision_config", "mm_tokens_per_image"}
_OF_IMAGES |= {f"{name}_token_{x}" for name in ("boi", "eoi", "image") for x in ("index", "id")}


def _text_model(entries):
    text = CheckpointConfig(entries).part(_TEXT)
    text.only("model_type", "gemma3_text")
    own = {name: value for name, value in entries.items() if name not in {_TEXT, "architectures", *_OF_IMAGES}}
    return {**text.entries, **own, "model_type": "gemma3_text"}


_CAUSAL_LM = dataclasses.replace(GEMMA3_TEXT.heads["causal_lm"], architecture="Gemma3ForConditionalGeneration")
GEMMA3 = dataclasses.replace(
    GEMMA3_TEXT,
    heads={**GEMMA3_TEXT.heads, "causal_lm": _CAUSAL_LM},
    # Of `transformers` from 4.52 on, and before.
    other_prefixes=("model.language_model", "language_model.model", "language_model"),
    ignored=(*GEMMA3_TEXT.ignored, r"(vision_tower|multi_modal_projector)\..*"),
    completed=_text_model,
)
