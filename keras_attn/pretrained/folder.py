"""Reads the files of a Hugging Face checkpoint folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_attn.extras import require

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
# Executable formats and their safe replacement.
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack", "model.ckpt")
# `safetensors` itself accepts a header of up to 100 MB; this bounds the other JSON files.
_MAX_JSON_BYTES = 100 * 2**20


class CheckpointFolder:
    """The JSON files and tensors of a folder. Tensors are memory-mapped, and read one at a time.

    Args:
        path: A folder with `config.json`, and `model.safetensors` or `model.safetensors.index.json` and its shards.

    Raises:
        ValueError: If a file is missing, damaged or unsafe; the message names it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open = {}
        self._shards = None

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        return (self.path / name).is_file()

    def json(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        """The contents of a JSON file, a dict; `default` if there is no such file."""
        file = self.path / name
        if not file.is_file():
            if default is not None:
                return default
            raise ValueError(f"`folder` must contain {name}. Received: {self.path}")
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"{file} must be a JSON file of at most {_MAX_JSON_BYTES} bytes")
        try:
            content = json.loads(file.read_bytes(), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} must be valid JSON. Received: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{file} must contain a JSON object. Received: {type(content).__name__}")
        return content

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor by name."""
        return {name: tuple(self._slice(name).get_shape()) for name in self._files()}

    def read(self, name: str) -> np.ndarray:
        """A tensor: floating point as float32, anything else as stored."""
        values = self._file(self._files()[name]).get_tensor(name)
        if values.dtype.name == "bfloat16":
            return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32) if values.dtype.kind == "f" and values.dtype != np.float32 else values

    def _files(self):
        if self._shards is None:
            self._shards = self._checked_files()
        return self._shards

    def _checked_files(self):
        """The file of each tensor by name."""
        if not self.has(INDEX):
            if not self.has(WEIGHTS):
                raise ValueError(self._no_weights())
            return dict.fromkeys(self._file(WEIGHTS).keys(), WEIGHTS)
        files = self.json(INDEX).get("weight_map")
        if not isinstance(files, dict) or not files or not all(isinstance(x, str) for x in files.values()):
            raise ValueError(f"{self.path / INDEX} must map names of tensors to files under 'weight_map'")
        found = {}
        for file in dict.fromkeys(files.values()):
            # Shards lie beside their index, so that no path leaves the folder.
            if file != os.path.basename(file) or not file.endswith(".safetensors") or "\\" in file:
                raise ValueError(f"{self.path / INDEX} must name safetensors files in its folder. Received: {file!r}")
            for name in sorted(self._file(file).keys()):
                if name in found:
                    raise ValueError(f"{self.path} must contain each tensor once. Received twice: {name!r}")
                found[name] = file
        if wrong := sorted(set(files) ^ set(found)) or [name for name in files if files[name] != found[name]]:
            raise ValueError(
                f"{self.path / INDEX} must list the tensors of its files. Received a difference: {wrong[:9]}"
            )
        return found

    def _no_weights(self):
        if pickles := [name for name in _PICKLES if self.has(name)]:
            return (
                f"`folder` must contain {WEIGHTS}: {pickles[0]} can run code when it is read, or has no safe reader "
                "here. Convert it once where its source is trusted, with PyTorch: "
                "`AutoModel.from_pretrained(folder).save_pretrained(folder)`, with the class of the model's task. "
                f"Received: {self.path}"
            )
        return f"`folder` must contain {WEIGHTS} or {INDEX}. Received: {self.path}"

    def _file(self, name):
        if name not in self._open:
            file = self.path / name
            if not file.is_file():
                raise ValueError(f"`folder` must contain {name}, which its index names. Received: {self.path}")
            _check_header(file)
            safetensors = require("safetensors", "hf")
            try:
                # Never closed: the arrays of a memory map need it.
                self._open[name] = safetensors.safe_open(file, framework="np")
            except (safetensors.SafetensorError, OSError) as error:
                raise ValueError(f"{file} must be a complete safetensors file. Received: {error}") from error
        return self._open[name]

    def _slice(self, name):
        return self._file(self._files()[name]).get_slice(name)


def _check_header(file):
    """Raises a ValueError if a tensor occurs twice in the header, of which `safetensors` would use the last."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > min(_MAX_JSON_BYTES, file.stat().st_size):
            raise ValueError(f"{file} must be a complete safetensors file. Received: a header of {size} bytes")
        try:
            json.loads(stream.read(size), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} must be a safetensors file. Received: {error}") from error


def _without_duplicates(pairs):
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"names must be unique, {next(x for x in names if names.count(x) > 1)!r} is not")
    return content
