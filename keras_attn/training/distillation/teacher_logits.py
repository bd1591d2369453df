"""Logits of a teacher, computed once per example and kept on disk."""

from __future__ import annotations

import json
import os
import pathlib
import uuid
import zipfile
from collections.abc import Mapping
from hashlib import blake2b

import keras
import numpy as np

from keras_attn.replacement import replacement
from keras_attn.typing import Array, Nest

# The name of the logits among the inputs of a batch.
NAME = "teacher_logits"
# What the files of a folder belong to.
RECORD = "teacher.json"
_KEY_BYTES = 16
# Parts of a config on which the outputs do not depend.
_NO_SETTINGS = (
    *("name", "trainable", "build_config", "compile_config", "shared_object_id", "checkpoint", "generation_config"),
    *("input_layers", "output_layers", "inbound_nodes"),
)


class TeacherLogits:
    """Adds a teacher's logits to batches: `dataset.map(TeacherLogits(teacher, folder))`.

    The batches get the input `teacher_logits`, which `Distillation` uses in place of the teacher. An example is known
    by its inputs, without padding that the teacher masks, so the logits serve any order, batch size and number of
    epochs, also of later runs. They are computed at the first sight of an example, without dropout, written to the
    folder batch by batch, and kept in memory. Positions of padding that a later batch adds get zeros. Several processes
    may share a folder.

    Args:
        teacher: A model with one output of logits `(B, V)` or `(B, T, V)`, whose inputs are a dict of tensors.
        folder: The folder, created if it does not exist. It belongs to this teacher with its present weights and
            settings.
        dtype: Dtype of the stored logits, "float32" or "float16".

    Call arguments:
        batch: `(inputs, labels)` or `(inputs, labels, sample_weight)`, NumPy arrays.
        index: Number of the batch; it has no effect.

    Raises:
        ValueError: If an argument is invalid, the folder is that of another teacher, or a file of it is damaged.

    Example:

    >>> import numpy as np, tempfile
    >>> import keras_attn
    >>> from keras_attn.training.distillation import TeacherLogits
    >>> teacher = keras_attn.EncoderModel(20, 1, 8, 2, 16, head="sequence_classification", num_classes=3)
    >>> add = TeacherLogits(teacher, tempfile.mkdtemp())
    >>> inputs, labels = add(({"token_ids": np.array([[4, 5, 0]], "int32")}, np.array([1])))
    >>> inputs["teacher_logits"].shape
    (1, 3)
    """

    def __init__(self, teacher: keras.Model, folder: str | os.PathLike[str], dtype: str = "float32") -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"`dtype` must be 'float32' or 'float16'. Received: dtype={dtype!r}")
        if len(getattr(teacher, "outputs", None) or ()) != 1:
            raise ValueError(f"`teacher` must be a model of one output of logits. Received: {teacher!r}")
        self.teacher, self.folder, self.dtype = teacher, pathlib.Path(folder), dtype
        self._known: dict[bytes, Array] = {}
        self._call = None
        self.fingerprint = fingerprint(teacher)
        # Padding that the teacher sees is a part of the example.
        self._pad_id = getattr(teacher, "pad_id", None) if getattr(teacher, "mask_padding", True) else None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_teacher()
        for path in sorted(self.folder.glob("*.npz")):
            self._read(path)

    def __call__(self, batch: Nest, index: int = 0) -> Nest:
        inputs, *rest = batch
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"`batch` must have a dict of arrays by name as its inputs. Received: {type(inputs).__name__}"
            )
        inputs = {name: np.asarray(x) for name, x in inputs.items()}
        keys = self._keys(inputs)
        if not all(key in self._known for key in keys):
            self._compute(inputs, keys)
        width = self._width(inputs)
        found = [_padded(self._known[key].astype("float32"), width) for key in keys]
        return ({**inputs, NAME: np.stack(found)}, *rest)

    def _compute(self, inputs, keys):
        import tensorflow as tf

        if self._call is None:
            self._call = tf.function(lambda x: self.teacher(x, training=False), autograph=False, reduce_retracing=True)
        logits = np.asarray(self._call(inputs))
        if not np.isfinite(logits).all():
            raise ValueError("`teacher` must have finite logits. Received: NaN or infinity for a batch of the data")
        largest = np.abs(logits).max()
        if largest > np.finfo(self.dtype).max:
            raise ValueError(
                f"`dtype` must be 'float32' for logits as large as {largest:.3g}. Received: {self.dtype!r}"
            )
        new = {key: row for key, row in zip(keys, logits.astype(self.dtype), strict=True) if key not in self._known}
        self._write(new)
        self._known |= new

    def _write(self, found):
        """Writes logits by key to a file of their own, which appears when it is complete."""
        rows = [x.reshape(-1, x.shape[-1]) for x in found.values()]
        arrays = {
            "keys": np.frombuffer(b"".join(found), "uint8").reshape(-1, _KEY_BYTES),
            "lengths": np.array([len(x) for x in rows]),
            "logits": np.concatenate(rows),
        }
        with replacement(self.folder / f"{uuid.uuid4().hex}.npz") as path:
            np.savez(path, **arrays)

    def _read(self, path):
        try:
            with np.load(path, allow_pickle=False) as file:
                keys, lengths, logits = (file[name] for name in ("keys", "lengths", "logits"))
            if keys.dtype != "uint8" or keys.shape != (len(lengths), _KEY_BYTES) or lengths.sum() != len(logits):
                raise ValueError("unequal numbers of examples")
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                "`folder` must hold files that `TeacherLogits` wrote; remove the damaged one. "
                f"Received: {path}, {error}"
            ) from None
        parts = np.split(logits, np.cumsum(lengths)[:-1])
        of_tokens = len(self.teacher.outputs[0].shape) == 3
        self._known |= {key.tobytes(): part if of_tokens else part[0] for key, part in zip(keys, parts, strict=True)}

    def _check_teacher(self):
        own = {"teacher": self.fingerprint, "dtype": self.dtype}
        path = self.folder / RECORD
        if path.exists():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                found = None
            if found != own:
                raise ValueError(
                    "`folder` must hold the logits of this teacher, with its present weights and settings and this "
                    f"`dtype`; give another folder. Received: {self.folder}, with {found}, not {own}"
                )
            return
        with replacement(path) as file:
            file.write_text(json.dumps(own), encoding="utf-8")

    def _width(self, inputs):
        """The number of positions of logits `(B, T, V)` that belong to tokens; None for others."""
        if len(self.teacher.outputs[0].shape) < 3 or "mask_positions" in inputs:
            return None
        return next((inputs[name].shape[1] for name in ("target_ids", "token_ids") if name in inputs), None)

    def _trimmed(self, row):
        """A row of ids without the padding at its end."""
        if self._pad_id is None:
            return row
        real = np.flatnonzero(row != self._pad_id)
        return row[: real[-1] + 1 if len(real) else 0]

    def _keys(self, inputs):
        """A checksum of each row of the inputs."""
        keys = []
        for i in range(len(next(iter(inputs.values())))):
            checksum = blake2b(digest_size=_KEY_BYTES)
            for name in sorted(inputs):
                row = inputs[name][i]
                if row.ndim == 1 and name.endswith("_ids"):
                    row = self._trimmed(row).astype("int64")
                checksum.update(f"{name} {row.shape} {row.dtype}".encode())
                checksum.update(np.ascontiguousarray(row).tobytes())
            keys.append(checksum.digest())
        return keys


def _padded(logits, width):
    if width is None:
        return logits
    return np.pad(logits[:width], ((0, max(0, width - len(logits))), (0, 0)))


def fingerprint(model: keras.Model) -> str:
    """A checksum of the weights and settings of a model, without names; the states of random generators change."""
    checksum = blake2b(json.dumps(_settings(model), sort_keys=True, default=_class_name).encode(), digest_size=16)
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        checksum.update(f"{value.shape} {value.dtype}".encode())
        checksum.update(value.tobytes())
    return checksum.hexdigest()


def _settings(model):
    try:
        return _unnamed(keras.saving.serialize_keras_object(model))
    except NotImplementedError:  # a model class without `get_config`
        return _class_name(model)


def _class_name(value):
    return type(value).__name__


def _unnamed(value):
    if isinstance(value, dict):
        return {key: _unnamed(x) for key, x in value.items() if key not in _NO_SETTINGS}
    return [_unnamed(x) for x in value] if isinstance(value, list | tuple) else value
