"""Language models as encoders: the same stack of causal blocks, in an `EncoderModel`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_attn.pretrained.rows import Row, row

# Arguments of `LanguageModel` that concern its logits.
_OF_LOGITS = ("tie_output", "output_bias", "logit_soft_cap")


def causal_encoder(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an `EncoderModel` from those of a `LanguageModel`."""
    found = {name: value for name, value in arguments.items() if name not in _OF_LOGITS}
    found["attention_options"] = {**found.get("attention_options", {}), "causal": True}
    return {"norm": "pre", "dropout": 0.0, "embedding_norm": False, **found}


def encoder_table(table: Mapping[str, str | Row]) -> dict[str, Row]:
    """The table of an `EncoderModel` from that of a `LanguageModel`."""
    return {name: _renamed(row(target)) for name, target in table.items()}


def _renamed(target):
    return dataclasses.replace(target, paths=tuple(path.replace("decoder", "encoder") for path in target.paths))
