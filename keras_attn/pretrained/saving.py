"""Writes a model as a Hugging Face checkpoint."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_attn.extras import require
from keras_attn.layers.base.serialization import serialized
from keras_attn.layers.transformer.stack import Stack
from keras_attn.pretrained.checkpoint import Checkpoint
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import family_of
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.folder import INDEX, WEIGHTS
from keras_attn.pretrained.sentence_modules import SentenceModules
from keras_attn.pretrained.weights import tensors_of
from keras_attn.replacement import replacement

_UNKNOWN = object()
# What a checkpoint does not describe.
_OWN = ("name", "trainable", "dtype", "tokenizer", "generation_config", "checkpoint", "pad_id", "sublayers")


def save_pretrained(
    model: keras.Model,
    folder: str | os.PathLike[str],
    config: Mapping[str, Any] | None = None,
    task: str | None = None,
) -> None:
    """Writes a model as a folder that `transformers` loads with equal outputs.

    Writes `config.json`, `generation_config.json`, `model.safetensors` and the files of the tokenizer.

    Args:
        model: A model of this package.
        folder: The folder, created if it does not exist.
        config: The contents of `config.json`, with `model_type` and either `architectures` or `task`. Defaults to what
            the model was read with. It must describe the model.
        task: See `from_pretrained`.

    Raises:
        ValueError: If `config` is missing, or does not describe the model; or if `folder` is a file.
    """
    if Path(folder).is_file():
        raise ValueError(f"`folder` must be a folder, which need not exist. Received a file: {os.fspath(folder)!r}")
    checkpoint = model.checkpoint if config is None else Checkpoint(dict(config), task)
    if checkpoint is None:
        raise ValueError(
            "`config` must be given for a model that was not read by `from_pretrained`: the contents of the "
            "config.json that describes it, such as {'model_type': 'bert', 'architectures': ['BertModel'], ...}. "
            "Received: None"
        )
    entries = checkpoint.config
    family = family_of(entries.get("model_type"))
    modules = SentenceModules(checkpoint.modules) if checkpoint.modules else None
    if modules is None:
        _, head = family.head_of(entries.get("architectures"), task or checkpoint.task)
    else:
        head = modules.head(family)
    parsed = CheckpointConfig(entries)
    actual = model.get_config()
    num_classes = None if head.classifier is None else model.outputs[0].shape[-1]
    if not isinstance(model, family.model_of(head)):
        raise ValueError(
            f"`model` must be of class {family.model_of(head).__name__}, as its `config` says. "
            f"Received: {type(model).__name__}"
        )
    _check_described(family.arguments(parsed, head, num_classes), actual, type(model))
    body = tensors_of(model, family.table(parsed, head))
    named = prefixed(family, head, body)
    files = {"config.json": as_json({**entries, "architectures": [head.architecture], "dtype": "float32"})}
    if checkpoint.generation:
        files["generation_config.json"] = as_json(checkpoint.generation)
    if model.tokenizer is not None:
        files |= model.tokenizer.hugging_face_files()
    folder, tensors = Path(folder), {"": named}
    if modules is not None:
        tensors = modules.split(named)
        files = {os.path.join(modules.paths["Transformer"], name): text for name, text in files.items()}
        files |= {name: as_json(content) for name, content in modules.files.items()}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacement(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    for name, values in tensors.items():
        (folder / name).mkdir(exist_ok=True)
        write_tensors(folder / name / WEIGHTS, values, folder / next(iter(files)))
        _remove_shards(folder / name)


def _remove_shards(folder):
    """Removes an index and its shards, which readers would prefer to the new file."""
    for path in (folder / INDEX, *folder.glob("model-*-of-*.safetensors")):
        path.unlink(missing_ok=True)


def _check_described(arguments, actual, model_class):
    """Raises a ValueError if the model is not the one that the config describes."""
    described = serialized({**arguments})
    # What the config does not describe has the default.
    described = {name: _default(name, model_class) for name in actual if name not in described} | described
    differs = {}
    for name, value in described.items():
        mine = actual.get(name)
        if value is not _UNKNOWN and _plain(value) != _plain(mine) and name not in _OWN:
            differs[name] = {"config": _plain(value), "model": _plain(mine)}
    if differs:
        raise ValueError(f"`config` must describe the model. Received a difference in {differs}")


def _default(name, model_class):
    """The default of an argument of a model, which hands those of a stack on; models have own ones for blocks."""
    for takes in (model_class, Stack):
        parameter = inspect.signature(takes).parameters.get(name)
        if parameter is not None and parameter.default is not parameter.empty:
            return parameter.default
    return _UNKNOWN


def _plain(value):
    """A config without names, dtypes, frozen states, build shapes and tokenizers, to compare two layers."""
    if isinstance(value, dict):
        hidden = ("name", "dtype", "trainable", "build_config", "build_input_shape", "module", "registered_name")
        hidden += ("tokenizer", "pad_id", "shared_object_id")
        return {k: _plain(v) for k, v in value.items() if k not in hidden}
    return [_plain(x) for x in value if not _is_input(x)] if isinstance(value, list | tuple) else value


def _is_input(value):
    """Whether a config is of the layer with which a built `keras.Sequential` starts."""
    return isinstance(value, dict) and value.get("class_name") == "InputLayer"


def write_tensors(file: Path, tensors: dict[str, Any], beside: Path) -> None:
    """Writes a safetensors file with the permissions of another one."""
    safetensors = require("safetensors.numpy", "hf")
    with replacement(file) as path:
        safetensors.save_file(tensors, path, metadata={"format": "pt"})
        # Otherwise only the owner could read it.
        shutil.copymode(beside, path)


def prefixed(family: Family, head: Head, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors under the names of a file of the head's class."""
    # The base class has none, also with the modules of sentence-transformers.
    is_base = "base" in family.heads and head.architecture == family.heads["base"].architecture
    has_prefix = family.prefix and head.has_prefix and not is_base
    own = tuple(name.replace("*", "") for name in head.tensors if name not in head.body)
    found = {}
    for name, value in tensors.items():
        is_own = any(name == x or name.startswith(f"{x}.") for x in own)
        found[name if is_own or not has_prefix else f"{family.prefix}.{name}"] = value
    return found


def as_json(content: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
