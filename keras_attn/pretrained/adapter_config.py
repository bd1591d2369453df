"""The `adapter_config.json` of PEFT."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What changes no number that a loaded adapter computes.
_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "lora_dropout", "peft_version"),
    *("revision", "task_type", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_core"),
    *("qalora_group_size", "ensure_weight_tying", "layers_pattern", "exclude_modules", "runtime_config"),
}
# Of what the tensors have the last word.
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules"}
_READ |= {"modules_to_save", "layers_to_transform", "init_lora_weights", "bias"}
# They start from the weights of the base model.
_INITIAL = (None, True, False, "gaussian", "orthogonal", "eva")


class AdapterConfig:
    """The settings of a LoRA adapter.

    Args:
        entries: The contents of the file.

    Raises:
        ValueError: If the adapter is not LoRA, or an entry is not understood.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.entries = entries
        self._only("peft_type", "LORA")
        self._only("bias", "none", None)
        self._only("init_lora_weights", *_INITIAL)
        self._only("use_rslora", False, True, None)
        known, off = _READ | _HARMLESS, (None, False, [], {}, "")
        unknown = {name: value for name, value in entries.items() if name not in known and value not in off}
        if unknown:
            raise ValueError(
                "`adapter_config.json` has entries that keras_attn does not know, and that may change the outputs. "
                f"Received: {unknown}"
            )
        self._number("r", entries.get("r"), int)
        self._number("lora_alpha", entries.get("lora_alpha"), int | float)
        self._patterns = {}
        for name, kind in (("rank_pattern", int), ("alpha_pattern", int | float)):
            pattern = entries.get(name) or {}
            if not isinstance(pattern, dict) or not all(re.fullmatch(r"\^?[\w.]+", key) for key in pattern):
                raise ValueError(f"`adapter_config.json` must have names of modules in {name!r}. Received: {pattern!r}")
            for value in pattern.values():
                self._number(name, value, kind)
            self._patterns[name] = pattern

    def rank(self, module: str) -> int:
        """The rank in a module of theirs."""
        return self._of("rank_pattern", module, self.entries["r"])

    def scale(self, module: str) -> float:
        """The factor of the product of the matrices."""
        alpha, rank = self._of("alpha_pattern", module, self.entries["lora_alpha"]), self.rank(module)
        return alpha / math.sqrt(rank) if self.entries.get("use_rslora") else alpha / rank

    def lists(self, module: str) -> bool:
        """Whether `target_modules` lists a module; False if it is an expression, or with exceptions."""
        exceptions = self.entries.get("layers_to_transform"), self.entries.get("exclude_modules")
        return exceptions == (None, None) and _matches(self.entries.get("target_modules"), module)

    def saves(self, module: str) -> bool:
        """Whether `modules_to_save` lists a module."""
        return _matches(self.entries.get("modules_to_save"), module)

    def _of(self, name, module, default):
        for key, value in self._patterns[name].items():
            whole = key.startswith("^")
            if module == key.lstrip("^") or (not whole and module.endswith(f".{key}")):
                return value
        return default

    def _only(self, name, *values):
        value = self.entries.get(name)
        if not any(value is x or (isinstance(x, str) and value == x) for x in values):
            allowed = " or ".join(repr(x) for x in values if x is not None)
            raise ValueError(f"`adapter_config.json` may have {name!r} only as {allowed}. Received: {value!r}")

    def _number(self, name, value, kind):
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < 2**31:
            raise ValueError(f"`adapter_config.json` must have positive numbers as {name!r}. Received: {value!r}")


def _matches(targets: Sequence[str] | str | None, module: str) -> bool:
    if not isinstance(targets, list):
        return False
    return any(isinstance(x, str) and (module == x or module.endswith(f".{x}")) for x in targets)
