"""Windows of layers from the entry `layer_types` of `config.json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig

FULL, SLIDING = "full_attention", "sliding_attention"


def layer_types(config: CheckpointConfig, is_sliding: Callable[[int], bool]) -> list[str]:
    """`FULL` or `SLIDING` for each layer; by default as `is_sliding` says for its index."""
    count = config.size("num_hidden_layers", 32)
    types = config("layer_types", None)
    if types is None:
        return [SLIDING if is_sliding(i) else FULL for i in range(count)]
    if not isinstance(types, list) or len(types) != count or not all(x in (FULL, SLIDING) for x in types):
        raise ValueError(
            f"`config.json` must have one of {FULL!r} and {SLIDING!r} for each of {count} layers as 'layer_types'. "
            f"Received: {types!r}"
        )
    return types


def layer_options(types: list[str], options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The argument `layer_options` of a model, with `options` for each type of layer."""
    return {"layer_options": [options.get(kind, {}) for kind in types]} if options else {}


def window(config: CheckpointConfig) -> int | None:
    """The entry `sliding_window`, by default None."""
    return None if config("sliding_window", None) is None else config.size("sliding_window")
