"""Folders of sentence-transformers: a checkpoint, and modules that make a vector of its output."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_attn.layers import EmbeddingHead, FirstTokenPooling, LastTokenPooling, MaxPooling, MeanPooling
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.folder import CheckpointFolder

MODULES = "modules.json"
TASK = "sentence_embedding"
_KINDS = ["Transformer", "Pooling", "Dense", "Normalize"]
_PROMPTS = "config_sentence_transformers.json"
_LENGTHS = [f"sentence_{name}_config.json" for name in ("bert", "roberta", "distilbert", "camembert", "albert")]
_LENGTHS += ["sentence_xlm-roberta_config.json"]
_POOLINGS = {"cls": FirstTokenPooling, "mean": MeanPooling, "max": MaxPooling, "lasttoken": LastTokenPooling}
# As the flags `pooling_mode_...` call them.
_FLAGS = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "lasttoken": "lasttoken"}
_FLAGS |= {"mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean_tokens": "weightedmean"}
_ACTIVATIONS = {"Identity": None, "Tanh": "tanh", "ReLU": "relu", "Sigmoid": "sigmoid", "GELU": "gelu"}
# What newer releases write of the Transformer.
_TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
    **{name: {} for name in ("model_args", "tokenizer_args", "config_args")},
}
# In front of the tensors of the Dense module.
_DENSE_PREFIX = "dense."
_LINEAR = f"{_DENSE_PREFIX}linear"


class SentenceModules:
    """The modules after the Transformer, and the JSON files that describe them.

    The rate of a Dropout module is not kept.

    Args:
        files: The contents of `modules.json` and the other JSON files, by their path in the folder.

    Raises:
        ValueError: If a module or a setting is not supported, or a path leaves the folder.
    """

    def __init__(self, files: Mapping[str, Any]) -> None:
        self.files = dict(files)
        modules = [(_kind(module), _path(module.get("path", ""))) for module in _list(self.files[MODULES])]
        self.paths = {kind: path for kind, path in modules if kind != "Dropout"}
        order = [kind for kind in _KINDS if kind in self.paths]
        if order[:2] != _KINDS[:2] or order != [kind for kind, _ in modules if kind != "Dropout"]:
            raise ValueError(
                f"{MODULES} must list a Transformer, a Pooling, and optionally a Dense and a Normalize module, in this "
                f"order. Received: {[kind for kind, _ in modules]}"
            )

    @classmethod
    def of(cls, folder: Path) -> SentenceModules | None:
        """The modules of a folder; None if it has no `modules.json`."""
        if not (folder / MODULES).is_file():
            return None
        files = CheckpointFolder(folder)
        found = {MODULES: files.json(MODULES, kind=list)}
        paths = cls(found).paths
        for path in paths.values():
            if not (folder / path).resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{MODULES} must list paths in its folder. Received: {path!r}")
        names = [_joined(path, "config.json") for kind, path in paths.items() if kind != "Transformer"]
        names += [_PROMPTS, *(_joined(paths["Transformer"], name) for name in _LENGTHS)]
        return cls(found | {name: files.json(name) for name in names if files.has(name)})

    def max_length(self) -> int | None:
        """The maximum number of tokens per text; None for that of the Transformer."""
        settings = self._transformer()
        settings.only("do_lower_case", False, True)
        for name, value in _TRANSFORMER.items():
            settings.only(name, value)
        length = settings.size("max_seq_length") if settings("max_seq_length", None) is not None else None
        settings.check_all_used()
        if name := self._config("", _PROMPTS)("default_prompt_name", None):
            raise ValueError(
                f"{_PROMPTS} must have null as 'default_prompt_name': write the prompt in front of your texts, and "
                f"change the entry in a copy of the file. Received: {name!r}"
            )
        return length

    @property
    def lowercases(self) -> bool:
        """Whether texts are lowercased before the tokenizer reads them."""
        return bool(self._transformer()("do_lower_case", False))

    def head(self, family: Family) -> Head:
        """The head of a family for these modules."""
        _, base = family.head_of(None, "base")
        tensors = {_LINEAR: f"{TASK}/projection"} if "Dense" in self.paths else {}

        def settings(config, num_classes):
            found = {} if base.settings is None else base.settings(config, num_classes)
            return {**found, "head": self.layer()}

        return dataclasses.replace(base, tensors={**base.tensors, **tensors}, settings=settings)

    def layer(self) -> EmbeddingHead:
        """The head as a layer."""
        pooling = _POOLINGS[_pooling_mode(self._config(self.paths["Pooling"], "config.json"))](name="pooling")
        dense = _dense(self._config(self.paths["Dense"], "config.json")) if "Dense" in self.paths else {}
        if "Normalize" in self.paths:
            _check_names(self._config(self.paths["Normalize"], "config.json"))
        return EmbeddingHead(pooling, **dense, normalize="Normalize" in self.paths, name=TASK)

    def folder(self, path: Path) -> CheckpointFolder:
        """The tensors of all modules."""
        transformer = path / self.paths["Transformer"]
        if "Dense" in self.paths:
            return _WithDense(transformer, path / self.paths["Dense"])
        return CheckpointFolder(transformer)

    def split(self, tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        """Tensors by the path of their module."""
        dense = {name for name in tensors if name.startswith(_DENSE_PREFIX)}
        found = {self.paths["Transformer"]: {name: x for name, x in tensors.items() if name not in dense}}
        if dense:
            found[self.paths["Dense"]] = {name.removeprefix(_DENSE_PREFIX): tensors[name] for name in dense}
        return found

    def _transformer(self):
        path = self.paths["Transformer"]
        return self._config(path, next((name for name in _LENGTHS if _joined(path, name) in self.files), _LENGTHS[0]))

    def _config(self, path, name):
        return CheckpointConfig(self.files.get(_joined(path, name), {}))


class _WithDense(CheckpointFolder):
    """The folder of the Transformer with the tensors of the Dense module."""

    def __init__(self, path, dense):
        super().__init__(path)
        self.dense = CheckpointFolder(dense)

    def shapes(self):
        return super().shapes() | {_DENSE_PREFIX + name: shape for name, shape in self.dense.shapes().items()}

    def read(self, name):
        if name.startswith(_DENSE_PREFIX):
            return self.dense.read(name.removeprefix(_DENSE_PREFIX))
        return super().read(name)


def _pooling_mode(config):
    config.ignore("word_embedding_dimension", "embedding_dimension", "include_prompt")
    flags = [mode for flag, mode in _FLAGS.items() if config(f"pooling_mode_{flag}", False)]
    mode = config("pooling_mode", None) or flags or "mean"
    modes = [mode] if isinstance(mode, str) else mode
    config.check_all_used()
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ValueError(f"The Pooling module must have one of the modes {list(_POOLINGS)}. Received: {modes}")
    return modes[0]


def _dense(config):
    config.only("use_residual", False)
    _check_names(config)
    config.ignore("in_features")
    found = {"output_dim": config.size("out_features"), "use_bias": bool(config("bias", True))}
    name = str(config("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    config.check_all_used()
    if name not in _ACTIVATIONS:
        raise ValueError(f"A Dense module must have one of the activations {list(_ACTIVATIONS)}. Received: {name!r}")
    return found | {"activation": _ACTIVATIONS[name]}


def _check_names(config):
    config.only("module_input_name", TASK)
    config.only("module_output_name", TASK, None)


def _list(modules):
    if not isinstance(modules, list) or not all(isinstance(x, dict) for x in modules):
        raise ValueError(f"{MODULES} must be a list of modules. Received: {modules!r}")
    return modules


def _kind(module):
    package, _, kind = str(module.get("type")).rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise ValueError(f"{MODULES} may list only modules of sentence_transformers. Received: {module.get('type')!r}")
    return kind


def _path(path):
    if not isinstance(path, str) or not re.fullmatch(r"[\w-]*", path):
        raise ValueError(f"{MODULES} must list names of folders as 'path'. Received: {path!r}")
    return path


def _joined(path, name):
    return f"{path}/{name}" if path else name
