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
_PICKLES += ("adapter_model.bin",)
# `safetensors` itself accepts a header of up to 100 MB; this bounds the other JSON files.
_MAX_JSON_BYTES = 100 * 2**20
# How NumPy reads them; bfloat16 is the first half of a float32.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


class CheckpointFolder:
    """The JSON files and tensors of a folder. Tensors are memory-mapped, and read one at a time.

    Args:
        path: A folder with `config.json`, and `model.safetensors` or `model.safetensors.index.json` and its shards.
        weights: Another name of the file with tensors.

    Raises:
        ValueError: If a file is missing, damaged or unsafe; the message names it.
    """

    def __init__(self, path: str | os.PathLike[str], weights: str = WEIGHTS) -> None:
        self.path, self.weights = Path(path), weights
        self._headers = {}
        self._shards = None

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        return (self.path / name).is_file()

    def json(self, name: str, default: Any = None, kind: type = dict) -> Any:
        """The contents of a JSON file, a `dict` unless `kind` is `list`; `default` if there is no such file."""
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
        if not isinstance(content, kind):
            name = "object" if kind is dict else "array"
            raise ValueError(f"{file} must contain a JSON {name}. Received: {type(content).__name__}")
        return content

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor by name."""
        return {name: self._headers[file][name][1] for name, file in self._files().items()}

    def read(self, name: str) -> np.ndarray:
        """A tensor: floating point as float32, anything else as stored. The file is mapped for this tensor alone."""
        return self._part(name, ...)

    def _part(self, name, index):
        """A part of a tensor, as `read`; only this part is converted."""
        file = self._files()[name]
        kind, shape, start = self._headers[file][name]
        values = np.memmap(self.path / file, _DTYPES[kind], "r", start, shape) if 0 not in shape else np.zeros(shape)
        values = values[index]
        if kind == "BF16":
            return np.left_shift(values, 16, dtype=np.uint32).view(np.float32)
        return values.astype(np.float32) if kind in ("F16", "F64") else values

    def _files(self):
        if self._shards is None:
            self._shards = self._checked_files()
        return self._shards

    def _checked_files(self):
        """The file of each tensor by name."""
        if self.weights != WEIGHTS or not self.has(INDEX):
            if not self.has(self.weights):
                raise ValueError(self._no_weights())
            return dict.fromkeys(self._header(self.weights), self.weights)
        files = self.json(INDEX).get("weight_map")
        if not isinstance(files, dict) or not files or not all(isinstance(x, str) for x in files.values()):
            raise ValueError(f"{self.path / INDEX} must map names of tensors to files under 'weight_map'")
        found = {}
        for file in dict.fromkeys(files.values()):
            # Shards lie beside their index, so that no path leaves the folder.
            if file != os.path.basename(file) or not file.endswith(".safetensors") or "\\" in file:
                raise ValueError(f"{self.path / INDEX} must name safetensors files in its folder. Received: {file!r}")
            for name in self._header(file):
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
            if pickles[0].startswith(("tf_", "flax_", "model.ckpt")):
                return (
                    f"`folder` must contain {self.weights}: {pickles[0]} has no safe reader here, and transformers 5 "
                    "none at all. transformers 4 with TensorFlow or Flax converts it: "
                    "`AutoModel.from_pretrained(folder, from_tf=True).save_pretrained(folder)`, or `from_flax=True`, "
                    f"with the class of the model's task. Received: {self.path}"
                )
            return (
                f"`folder` must contain {self.weights}: {pickles[0]} can run code when it is read, or has no safe "
                "reader here. Convert it once where its source is trusted, with PyTorch: "
                "`AutoModel.from_pretrained(folder).save_pretrained(folder)`, with the class of the model's task. "
                f"Received: {self.path}"
            )
        wanted = f"{WEIGHTS} or {INDEX}" if self.weights == WEIGHTS else self.weights
        return f"`folder` must contain {wanted}. Received: {self.path}"

    def _header(self, name):
        """`(dtype, shape, offset)` of each tensor in a file."""
        if name not in self._headers:
            file = self.path / name
            if not file.is_file():
                raise ValueError(f"`folder` must contain {name}, which its index names. Received: {self.path}")
            self._headers[name] = _checked_header(file)
        return self._headers[name]


def _checked_header(file):
    safetensors = require("safetensors", "hf")
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > min(_MAX_JSON_BYTES, file.stat().st_size):
            raise ValueError(f"{file} must be a complete safetensors file. Received: a header of {size} bytes")
        try:
            # `safetensors` would use the last of two tensors of one name. It checks everything else.
            header = json.loads(stream.read(size), object_pairs_hook=_without_duplicates)
            safetensors.safe_open(file, framework="np")
        except (safetensors.SafetensorError, ValueError, RecursionError, OSError) as error:
            raise ValueError(f"{file} must be a complete safetensors file. Received: {error}") from error
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{file} must hold tensors of {sorted(_DTYPES)}. Received: {name!r} of {entry['dtype']}")
        found[name] = entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0]
    return found


def _without_duplicates(pairs):
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"names must be unique, {next(x for x in names if names.count(x) > 1)!r} is not")
    return content
