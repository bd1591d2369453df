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

from keras_attn.typing import Array, Nest

# The name of the logits among the inputs of a batch.
NAME = "teacher_logits"
# What the files of a folder belong to.
RECORD = "teacher.json"
_KEY_BYTES = 16


class TeacherLogits:
    """Adds a teacher's logits to batches: `dataset.map(TeacherLogits(teacher, folder))`.

    The batches get the input `teacher_logits`, which `Distillation` uses in place of the teacher. An example is known
    by its inputs, without padding, so the logits serve any order, batch size and number of epochs, also of later runs.
    They are computed at the first sight of an example, without dropout, written to the folder batch by batch, and kept
    in memory. Several processes may share a folder.

    Args:
        teacher: A model with one output of logits `(B, V)` or `(B, T, V)`, whose inputs are a dict of tensors.
        folder: The folder, created if it does not exist. It belongs to this teacher with its present weights.
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
        keys, lengths = self._keys(inputs), self._lengths(inputs)
        if not all(key in self._known for key in keys):
            self._compute(inputs, keys, lengths)
        width = None if lengths is None else len(self._ids(inputs)[0])
        found = [_padded(self._known[key].astype("float32"), width) for key in keys]
        return ({**inputs, NAME: np.stack(found)}, *rest)

    def _compute(self, inputs, keys, lengths):
        import tensorflow as tf

        if self._call is None:
            self._call = tf.function(lambda x: self.teacher(x, training=False), autograph=False, reduce_retracing=True)
        logits = np.asarray(self._call(inputs), self.dtype)
        if not np.isfinite(logits).all():
            raise ValueError("`teacher` must have finite logits. Received: NaN or infinity for a batch of the data")
        new = {}
        for i, key in enumerate(keys):
            if key not in self._known:
                new[key] = logits[i] if lengths is None else logits[i, : lengths[i]]
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
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        unfinished = path.with_suffix(".unfinished")
        with open(unfinished, "wb") as file:
            np.savez(file, **arrays)
        os.replace(unfinished, path)

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
        own = {"teacher": fingerprint(self.teacher), "dtype": self.dtype}
        path = self.folder / RECORD
        if path.exists():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                found = None
            if found != own:
                raise ValueError(
                    "`folder` must hold the logits of this teacher, with its present weights and this `dtype`; give "
                    f"another folder. Received: {self.folder}, with {found}, not {own}"
                )
            return
        unfinished = path.with_name(f"{uuid.uuid4().hex}.unfinished")
        unfinished.write_text(json.dumps(own), encoding="utf-8")
        os.replace(unfinished, path)

    def _ids(self, inputs):
        """The ids of the tokens that logits `(B, T, V)` belong to, or None."""
        return next((inputs[name] for name in ("target_ids", "token_ids") if name in inputs), None)

    def _lengths(self, inputs):
        """The number of positions of each row to keep; None for logits of whole rows."""
        if len(self.teacher.outputs[0].shape) < 3 or (ids := self._ids(inputs)) is None:
            return None
        return [len(self._trimmed(row)) for row in ids]

    def _trimmed(self, row):
        """A row of ids without the padding at its end."""
        pad_id = getattr(self.teacher, "pad_id", None)
        real = np.flatnonzero(row != pad_id)
        return row[: real[-1] + 1 if len(real) else 0]

    def _keys(self, inputs):
        """A checksum of each row of the inputs."""
        keys = []
        for i in range(len(next(iter(inputs.values())))):
            checksum = blake2b(digest_size=_KEY_BYTES)
            for name in sorted(inputs):
                row = inputs[name][i]
                if row.ndim == 1 and row.dtype.kind == "i":
                    row = self._trimmed(row).astype("int64")
                checksum.update(f"{name} {row.shape} {row.dtype}".encode())
                checksum.update(np.ascontiguousarray(row).tobytes())
            keys.append(checksum.digest())
        return keys


def _padded(logits, width):
    if width is None:
        return logits
    return np.pad(logits, ((0, width - len(logits)), (0, 0)))


def fingerprint(model: keras.Model) -> str:
    """A checksum of the weights of a model."""
    checksum = blake2b(digest_size=16)
    for variable in model.variables:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        checksum.update(f"{value.shape} {value.dtype}".encode())
        checksum.update(value.tobytes())
    return checksum.hexdigest()
