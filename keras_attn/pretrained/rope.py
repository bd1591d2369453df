"""Rotary position encodings from `config.json`."""

from __future__ import annotations

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig


def rope(config: CheckpointConfig, base: float = 10000.0, kind: str | None = None) -> dict[str, Any]:
    """`base` and `scaling` of `RotaryPositionEncoding`.

    Args:
        config: The config. The base is its entry `rope_theta`, or in files of `transformers` 5 one of
            `rope_parameters`.
        base: The default of the base.
        kind: With one encoding for each kind of layer, the kind, such as "sliding_attention".
    """
    parameters = config("rope_parameters", None) or config("rope_scaling", None) or {}
    config.ignore("rope_parameters", "rope_scaling")
    if not isinstance(parameters, dict):
        raise ValueError(f"`config.json` must have an object as 'rope_parameters'. Received: {parameters!r}")
    parameters = dict(parameters.get(kind, parameters) if kind else parameters)
    theta = parameters.pop("rope_theta", None)
    base = config.number("rope_theta", base) if theta is None else theta
    config.ignore("rope_theta", "max_position_embeddings")
    if not isinstance(base, int | float) or not 0 < base < 1e38:
        raise ValueError(f"`config.json` must have a positive number as 'rope_theta'. Received: {base!r}")
    parameters.pop("partial_rotary_factor", None)
    legacy = parameters.pop("type", "default")
    scaling = {"rope_type": legacy, **{name: value for name, value in parameters.items() if value is not None}}
    scaling.setdefault("rope_type", legacy)
    if scaling["rope_type"] == "default":
        if len(scaling) > 1:
            raise ValueError(f"`config.json` must have no settings for the default RoPE. Received: {scaling}")
        return {"base": float(base)}
    limit = config.size("max_position_embeddings", 2048)
    if scaling["rope_type"] in ("dynamic", "yarn"):
        scaling.setdefault("original_max_position_embeddings", limit)
    return {"base": float(base), "scaling": scaling}
