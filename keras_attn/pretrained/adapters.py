"""LoRA adapters in the files of PEFT: the matrices, and the layers that are trained beside them."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np

from keras_attn import compat
from keras_attn.layers import Projection
from keras_attn.pretrained import adapter_matrices as matrices
from keras_attn.pretrained.adapter_config import AdapterConfig
from keras_attn.pretrained.buffers import assign
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import family_of
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.folder import CheckpointFolder
from keras_attn.pretrained.lora import freeze
from keras_attn.pretrained.saving import as_json, prefixed, write_tensors
from keras_attn.pretrained.weights import assignments, check_faults
from keras_attn.replacement import replacement

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_TASKS = {
    "base": "FEATURE_EXTRACTION",
    "sequence_classification": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "question_answering": "QUESTION_ANS",
    "causal_lm": "CAUSAL_LM",
    "seq2seq_lm": "SEQ_2_SEQ_LM",
}


def save_adapter(model: keras.Model, folder: str | os.PathLike[str]) -> None:
    """Writes only what is trained beside a frozen checkpoint, as a folder that PEFT loads.

    Writes `adapter_model.safetensors` with the LoRA matrices and the other trainable layers (`modules_to_save`), and
    `adapter_config.json`. If one module of theirs is several projections of ours with LoRA matrices of their own, such
    as GPT-2's `c_attn`, its rank in the file is the sum of theirs.

    Args:
        model: A model from `from_pretrained`, after `enable_lora`.
        folder: The folder, created if it does not exist.

    Raises:
        ValueError: If the model has no LoRA, or PEFT cannot describe it.
    """
    table = _Table(model)
    adapters, tensors, saved = {}, {}, set()
    for entry in table.plan:
        layers = [part.layer for part in entry.parts]
        if entry.names[0].endswith(".weight") and any(getattr(x, "lora_enabled", False) for x in layers):
            a, b, scale = matrices.written(entry)
            module = entry.names[0].removesuffix(".weight")
            adapters[module] = len(a), scale
            tensors |= {f"{module}{_A}": a, f"{module}{_B}": b}
        elif any(part.variable.trainable for part in entry.parts):
            tensors |= entry.tensors()
            saved |= {name.rpartition(".")[0] for name in entry.names}
    if not adapters:
        raise ValueError("`model` must have LoRA: call `keras_attn.pretrained.enable_lora(model, rank)` first.")
    if both := sorted(saved & adapters.keys()):
        raise ValueError(
            "`model` must have frozen biases in the projections with LoRA, as after "
            f"`keras_attn.pretrained.enable_lora`. Received trainable ones: {both}"
        )
    named = prefixed(table.family, table.head, {x: np.ascontiguousarray(v, "float32") for x, v in tensors.items()})
    names = dict(zip(tensors, named, strict=True))
    config = _config(
        {names[f"{x}{_A}"].removesuffix(_A): value for x, value in adapters.items()},
        sorted({names[x].rpartition(".")[0] for x in tensors if x.rpartition(".")[0] in saved}),
        table,
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacement(folder / _CONFIG) as path:
        path.write_text(as_json(config), encoding="utf-8")
    write_tensors(folder / _WEIGHTS, {f"{_PREFIX}{name}": value for name, value in named.items()}, folder / _CONFIG)


def load_adapter(model: keras.Model, folder: str | os.PathLike[str]) -> None:
    """Reads a LoRA adapter of PEFT into the model of its base checkpoint, which it freezes.

    Reads `adapter_config.json` and `adapter_model.safetensors`; every tensor must have its place in the model. The
    matrices stay apart from the weights: the model can be trained further, saved as `.keras` and by `save_adapter`, and
    `merge_lora` adds them.

    Args:
        model: A model from `from_pretrained`, without LoRA or with LoRA of the same ranks.
        folder: The folder.

    Raises:
        ValueError: If a file is missing, damaged or unsafe, or the adapter is one of another model; the message lists
            what does not fit.
    """
    files = CheckpointFolder(folder, _WEIGHTS)
    config = AdapterConfig(files.json(_CONFIG))
    table = _Table(model)
    read = _Reading(files, config, table)
    check_faults(f"a LoRA adapter of the model. Received: {files.path}", read.faults())
    for module, entry in read.adapters.items():
        matrices.assign_to(entry, *(files.read(read.names[f"{module}{end}"]) for end in (_A, _B)))
    for entry in read.saved:
        for part, value in zip(entry.parts, entry.read([files.read(read.names[x]) for x in entry.names]), strict=True):
            assign(part.variable, value)


class _Table:
    """The table of the checkpoint that a model was read from, applied to the model."""

    def __init__(self, model):
        self.model = model
        if getattr(model, "checkpoint", None) is None:
            raise ValueError("`model` must be read by `from_pretrained`, whose names an adapter uses.")
        config = CheckpointConfig(model.checkpoint.config)
        self.family: Family = family_of(config.entries.get("model_type"))
        self.task = model.checkpoint.task
        self.head: Head = self.family.head_of(None, self.task)[1]
        self.plan, unnamed = assignments(model, self.family.table(config, self.head))
        if unknown := [x for x in unnamed if not x.endswith(("/lora_kernel_a", "/lora_kernel_b"))]:
            raise ValueError(f"`model` must have only weights of its checkpoint, and LoRA. Received: {unknown}")
        self.adapted = [x for x in compat.layers_of(model) if isinstance(x, Projection) and x.lora_enabled]
        self.modules = {x.names[0].removesuffix(".weight"): x for x in self.plan if x.names[0].endswith(".weight")}


class _Reading:
    """What a folder holds for a model: `adapters`, assignments by module, and `saved`, those of whole tensors."""

    def __init__(self, files, config, table):
        self.files, self.config, self.table = files, config, table
        plain = {x.removeprefix(_PREFIX).replace(".modules_to_save", ""): x for x in files.shapes()}
        self.names = {name: plain[theirs] for name, theirs in table.family.names(plain).items()}
        found = {x.removesuffix(end) for x in self.names for end in (_A, _B) if x.endswith(end)}
        self.adapters = {x: entry for x, entry in table.modules.items() if x in found}
        self.saved = [entry for entry in table.plan if any(x in self.names for x in entry.names)]
        self.shapes = {name: files.shapes()[stored] for name, stored in self.names.items()}

    def faults(self):
        """What does not fit; if nothing, the model has the layers for the matrices afterwards."""
        faults = [*self._misplaced(), *self._missing()]
        for module, entry in self.adapters.items():
            faults += matrices.faults(entry, module, self.config.rank(self._full(module)), self._shapes_of(module))
        for entry in self.saved:
            for name, shape in zip(entry.names, entry.shapes(), strict=True):
                if name in self.shapes and self.shapes[name] != shape:
                    faults.append(f"tensor {self.names[name]!r} has shape {self.shapes[name]}, the model needs {shape}")
        layers = [part.layer for entry in self.adapters.values() for part in entry.parts]
        others = [x for x in self.table.adapted if not any(x is layer for layer in layers)]
        faults += [f"no matrices for {layer.path}, which has LoRA" for layer in others]
        if not faults:
            self._enable(layers)
        return faults

    def _full(self, module):
        """The module's name in the class with a head, which the settings use."""
        (name,) = prefixed(self.table.family, self.table.head, {f"{module}.weight": None})
        return name.removesuffix(".weight")

    def _shapes_of(self, module):
        return [self.shapes.get(f"{module}{end}") for end in (_A, _B)]

    def _misplaced(self):
        known = {name for entry in self.saved for name in entry.names}
        known |= {f"{module}{end}" for module in self.adapters for end in (_A, _B)}
        faults = [] if len(self.names) == len(self.files.shapes()) else ["a tensor under two names"]
        return faults + [
            f"no weight for tensor {stored!r} {self.shapes[name]}"
            for name, stored in sorted(self.names.items())
            if name not in known or not stored.startswith(_PREFIX)
        ]

    def _missing(self):
        wanted = {name for entry in self.saved for name in entry.names}
        for entry in self.table.plan:
            if any(self.config.saves(self._full(name.rpartition(".")[0])) for name in entry.names):
                wanted |= set(entry.names)
        for module, entry in self.table.modules.items():
            full = self._full(module)
            if self.config.saves(full):
                continue
            if module in self.adapters or (self.config.lists(full) and matrices.can_adapt(entry)):
                wanted |= {f"{module}{end}" for end in (_A, _B)}
        return [f"no tensor {name!r}" for name in sorted(wanted) if name not in self.names]

    def _enable(self, layers):
        for module, entry in self.adapters.items():
            rank = self.config.rank(self._full(module))
            for part in entry.parts:
                alpha = self.config.scale(self._full(module)) * rank
                if not part.layer.lora_enabled:
                    part.layer.enable_lora(rank, lora_alpha=alpha, as_matrix=True)
                part.layer.lora_alpha = alpha
        kept = [*layers, *(part.layer for entry in self.saved for part in entry.parts)]
        freeze(self.table.model, lambda layer: any(layer is x for x in kept))


def _config(adapters, saved, table):
    """The contents of `adapter_config.json`; `adapters` maps modules to rank and scale."""
    rank, scale = next(iter(adapters.values()))
    alphas = {module: r * s for module, (r, s) in adapters.items()}
    return {
        "peft_type": "LORA",
        "task_type": _TASKS.get(table.task),
        "base_model_name_or_path": table.model.checkpoint.config.get("_name_or_path"),
        "r": rank,
        "lora_alpha": _plain(rank * scale),
        "rank_pattern": {module: r for module, (r, _) in adapters.items() if r != rank},
        "alpha_pattern": {module: _plain(x) for module, x in alphas.items() if x != rank * scale},
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(matrices.is_transposed(x) for x in table.modules.values()),
        "target_modules": sorted(adapters),
        "modules_to_save": saved or None,
        "inference_mode": True,
    }


def _plain(number):
    return int(number) if float(number).is_integer() else float(number)
