"""Rotary position encodings from `config.json`."""

from __future__ import annotations

from typing import Any

from keras_attn.layers import RotaryPositionEncoding
from keras_attn.pretrained.checkpoint_config import CheckpointConfig

# The kind of layers that a config with one encoding for all of them describes.
_FULL = "full_attention"


def rope(
    config: CheckpointConfig, kind: str = _FULL, head_dim: int | None = None, base: float = 10000.0
) -> RotaryPositionEncoding:
    """The encoding that a config describes.

    Args:
        config: The config. The base of the frequencies is its entry `rope_theta`, or in files of `transformers` 5 one
            of `rope_parameters`.
        kind: With one encoding for each kind of layer, the kind, such as "sliding_attention".
        head_dim: Width of the heads, for families that may rotate a part of it: the entry `partial_rotary_factor`.
        base: The default of the base.
    """
    parameters = _parameters(config, kind)
    base = _number(config, "rope_theta", parameters.pop("rope_theta", None), base)
    fraction = _number(config, "partial_rotary_factor", parameters.pop("partial_rotary_factor", None), 1.0)
    if not 0 < fraction <= 1 or (head_dim is None and fraction != 1):
        allowed = "1" if head_dim is None else "a number in (0, 1]"
        raise ValueError(f"`config.json` may have 'partial_rotary_factor' only as {allowed}. Received: {fraction}")
    rotary_dim = None if fraction == 1 else int(head_dim * fraction)
    return RotaryPositionEncoding(base, rotary_dim, scaling=_scaling(config, parameters), name=_NAMES[kind])


_NAMES = {_FULL: "position", "sliding_attention": "sliding_position"}


def _parameters(config, kind):
    config.ignore("rope_theta", "partial_rotary_factor", "max_position_embeddings", "original_max_position_embeddings")
    parameters = rope_entry(config, "rope_parameters")
    found = rope_entry(config, "rope_scaling") or parameters
    own = found.get(kind, found)
    if not isinstance(own, dict):
        raise ValueError(f"`config.json` must have an object as {kind!r} of 'rope_parameters'. Received: {own!r}")
    return {name: value for name, value in own.items() if value is not None}


def rope_entry(config: CheckpointConfig, name: str) -> dict[str, Any]:
    """The entry `rope_parameters` or `rope_scaling`; empty if it is missing or null."""
    found = config(name, None)
    if not isinstance(found, dict | None):
        raise ValueError(f"`config.json` must have an object or null as {name!r}. Received: {found!r}")
    return found or {}


def _number(config, name, value, default):
    """A positive number from the parameters, or else from the config."""
    value = config.number(name, default) if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e38:
        raise ValueError(f"`config.json` must have a positive number as {name!r}. Received: {value!r}")
    return float(value)


def _scaling(config, parameters) -> dict[str, Any] | None:
    legacy = parameters.pop("type", "default")
    scaling = {"rope_type": legacy, **parameters}
    kind = scaling["rope_type"]
    if not isinstance(kind, str):
        raise ValueError(f"`config.json` must have a string as 'rope_type'. Received: {kind!r}")
    if kind == "default":
        if len(scaling) > 1:
            raise ValueError(f"`config.json` must have no settings for the default RoPE. Received: {scaling}")
        return None
    limit, name = config.size("max_position_embeddings", 2048), "original_max_position_embeddings"
    if kind == "dynamic":
        scaling[name] = limit
    elif kind in ("llama3", "yarn", "longrope"):
        # An entry of the config itself has priority.
        scaling[name] = config.size(name, scaling.get(name, limit))
    if kind in ("yarn", "longrope"):
        scaling.setdefault("factor", limit / scaling[name])
    return scaling
