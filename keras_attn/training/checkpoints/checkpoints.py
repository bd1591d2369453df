"""Checkpoints of a training run, verified before they are used."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_attn import compat
from keras_attn.argument_checks import is_integer
from keras_attn.folder_lock import FolderInUseError, FolderLock
from keras_attn.training.checkpoints.record import MODEL, STATE, damage, read_record, write_record
from keras_attn.training.checkpoints.run_settings import differences, format_differences
from keras_attn.typing import Array, PathLike

# Prefix of an earlier checkpoint of the same step, until it is replaced.
_REPLACED = ".replaced."
_NAME = re.compile(rf"(?:{re.escape(_REPLACED)})?(step-([0-9]{{8,}}))")
_UNFINISHED = re.compile(r"\.step-[0-9]{8,}\.[0-9]+")
# Ten seconds: calls of `save` outside of `fit` wait for each other.
_TRIES = 500


class Checkpoints:
    """A folder of the latest and the best checkpoints of a training run.

    A checkpoint is a folder such as `step-00001000`. It contains `state.npz` with the weights, optimizer, random states
    and state of callbacks, `model.keras` with the model, and `checkpoint.json` with the step, the logs, the settings of
    the training run and the SHA-256 of all three. It is written under a temporary name, and renamed when it is
    complete. Damaged checkpoints are skipped with a warning. The unfinished files of a killed process are removed by
    the next run.

    Only one training run at a time may write to a folder: `Trainer.fit` locks the file `.lock` in it, and raises an
    error at its start if it is locked. The lock ends with its process, even if that is killed. Reading needs no lock.

    `Trainer.fit` resumes from the latest checkpoint, at the record of the data at which it stopped. If settings differ
    from those of the checkpoint, they are listed in a warning if they can change (`accumulation_steps`, learning rate,
    seed, loss, metrics, ...), or in an error if they cannot (another data set of this package, a batch size with which
    no batch begins at that record, an optimizer with other variables). docs/many_machines.md lists all of them.

    Args:
        folder: The folder to write to. All workers must have access to it.
        every: Number of steps between two checkpoints. The last step of a training run is always saved.
        keep: Number of latest checkpoints to keep.
        keep_best: Number of checkpoints with the best finite `monitor` to keep. Checkpoints have validation metrics if
            `every` is a multiple of `validation_freq`.
        monitor: Name of a validation metric, such as `"val_loss"`. `Trainer.fit` rejects one that is not logged.
        mode: `"min"` or `"max"`, whether lower or higher values of `monitor` are better.

    Raises:
        ValueError: If a number is not positive, `mode` is neither, or `folder` is a file.

    Example:

    >>> from keras_attn.training import Checkpoints
    >>> checkpoints = Checkpoints("runs/dates", every=500, keep=3)
    >>> checkpoints.steps()
    []
    """

    def __init__(
        self,
        folder: PathLike,
        every: int = 1000,
        keep: int = 3,
        keep_best: int = 0,
        monitor: str = "val_loss",
        mode: str = "min",
    ) -> None:
        for name, value, least in (("every", every, 1), ("keep", keep, 1), ("keep_best", keep_best, 0)):
            if not is_integer(value) or value < least:
                raise ValueError(f"`{name}` must be an integer of {least} or more. Received: {name}={value!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"`mode` must be 'min' or 'max'. Received: mode={mode!r}")
        self.folder, self.every = _folder(folder), every
        if not isinstance(monitor, str):
            raise ValueError(f"`monitor` must be the name of a metric. Received: monitor={monitor!r}")
        self.keep, self.keep_best, self.monitor, self.mode = keep, keep_best, monitor, mode
        self._lock = FolderLock(self.folder)

    def steps(self) -> list[int]:
        """The steps of all checkpoints, including damaged ones, in ascending order."""
        names = [(entry, name) for entry in self._entries() if (name := _NAME.fullmatch(entry.name))]
        return sorted({int(n[2]) for entry, n in names if n[1] == _name(int(n[2])) and Path(entry.path).is_dir()})

    @contextlib.contextmanager
    def writing(self, tries: int = 1) -> Iterator[None]:
        """A scope that locks the folder. Unfinished files are removed at its start.

        Args:
            tries: Number of attempts to take the lock, 0.02 seconds apart.

        Raises:
            FolderInUseError: If another training run writes to the folder. It is a `ValueError` and an `OSError`.
            OSError: If the folder is not writable. Not checked if `tries` is 1, so that read-only access suffices.
        """
        with self._lock.held(tries) as is_alone:
            if not is_alone and tries > 1:
                self._check_writable()
            self._end_replacements()
            if is_alone:
                self._remove_unfinished()
            yield

    def save(
        self,
        step: int,
        state: Mapping[str, Array],
        model: keras.Model,
        logs: Mapping[str, float] | None = None,
        dataset: str | None = None,
        memory: Mapping[str, Array] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes a checkpoint, and removes old ones.

        Args:
            step: Number of steps so far.
            state: Dict of arrays.
            model: The `keras.Model`.
            logs: Dict of metrics.
            dataset: Fingerprint of the data set, a string or None.
            memory: Dict of more arrays, which need not match when a run resumes.
            settings: Settings of the training run, see `run_settings.py`, or None.

        Raises:
            OSError: If the checkpoint could not be written. Earlier ones are not changed.
        """
        record = {
            "step": step,
            "dataset": dataset,
            "settings": settings,
            "logs": {name: float(value) for name, value in (logs or {}).items()},
            "shapes": {name: list(value.shape) for name, value in state.items()},
        }
        with self.writing(_TRIES):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(step, state | (memory or {}), model, record)
            self._prune(step)

    def _write(self, step, arrays, model, record):
        target = self.folder / _name(step)
        work = self.folder / f".{target.name}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        try:
            work.mkdir()
            np.savez(work / STATE, **{name: _storable(x) for name, x in arrays.items()})
            with compat.years_of_archives():
                model.save(work / MODEL)
            write_record(work, record)
            for path in work.iterdir():
                _flush(path)
            if os.path.lexists(target):
                os.replace(target, self.folder / f"{_REPLACED}{target.name}")
            os.replace(work, target)
            _flush(self.folder)
        except OSError as error:
            raise OSError(error.errno, f"the checkpoint of step {step} could not be written: {error}") from error
        finally:
            _remove(work)
            self._end_replacements()

    def latest(
        self, shapes: Mapping[str, Sequence[int]], dataset: str | None = None
    ) -> tuple[int, dict[str, Array]] | None:
        """Reads the latest undamaged checkpoint. Returns `(step, state and memory)`, or None if there is no checkpoint.

        Args:
            shapes: The expected shapes of the state, by name.
            dataset: Fingerprint of the data set, a string or None.

        Raises:
            ValueError: If the checkpoint is from another model, optimizer or data set, or all are damaged.
        """
        found = self.latest_record(shapes, dataset)
        return found and (found[0]["step"], found[1])

    def latest_record(
        self, shapes: Mapping[str, Sequence[int]], dataset: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """Like `latest`, but returns the content of `checkpoint.json` instead of the step.

        Args:
            shapes, dataset: See `latest`.
            settings: Settings of the resumed run. Differences are listed in errors.
        """
        if self.folder.exists():
            # A run that writes to the folder has cleaned it up.
            with contextlib.suppress(FolderInUseError), self.writing():
                pass
        steps = self.steps()
        for step in reversed(steps):
            record, problem = self._read(step)
            if not problem:
                self._check(record, shapes, dataset, settings)
                try:
                    with np.load(self._path(step) / STATE, allow_pickle=False) as file:
                        return record, {name: file[name] for name in file.files}
                except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                    problem = f"{STATE} cannot be read ({type(error).__name__})"
            warnings.warn(f"{self._path(step)} is damaged and skipped: {problem}", stacklevel=3)
        if steps:
            raise ValueError(
                f"`checkpoints` must contain an undamaged one. Received: {self.folder}, in which all are damaged. "
                "Delete them or choose another folder to start afresh"
            )
        return None

    def average(self, model: keras.Model, last: int | None = None, best: int | None = None) -> list[int]:
        """Sets the weights of a model to the average of several checkpoints.

        Args:
            model: A model with the same weights.
            last: Number of latest checkpoints to average.
            best: Number of best checkpoints by `monitor` to average. Give either `last` or `best`.

        Returns:
            The steps of the averaged checkpoints.

        Raises:
            ValueError: If not exactly one of `last` and `best` is given, there are too few checkpoints, or they are
                from another model.

        Reference:
            [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 6.1
        """
        if (last is None) == (best is None):
            raise ValueError(f"One of `last` and `best` must be given. Received: last={last}, best={best}")
        whole = [(step, record) for step in self.steps() for record, problem in [self._read(step)] if not problem]
        steps = [step for step, _ in whole][-(last or 0) :] if best is None else self._best(whole, best)
        if len(steps) != (last or best) or not steps:
            wanted = f"last={last}, but there are {len(steps)}"
            if best is not None:
                wanted = f"best={best}, but there are {len(steps)} with a finite {self.monitor!r}"
            raise ValueError(f"`{self.folder}` must contain that many checkpoints. Received: {wanted}")
        variables = named("weights", model.weights)
        shapes = {name: list(v.shape) for name, v in variables.items()}
        sums = {}
        for step in steps:
            with np.load(self._path(step) / STATE, allow_pickle=False) as file:
                stored = {name: list(file[name].shape) for name in file.files if name.startswith("weights/")}
                if stored != shapes:
                    raise ValueError(
                        f"`model` must have the weights of {self._path(step)}. Received: {_mismatch(stored, shapes)}"
                    )
                for name in shapes:
                    sums[name] = sums.get(name, 0) + file[name].astype("float64")
        for name, variable in variables.items():
            variable.assign(keras.ops.cast(sums[name] / len(steps), variable.dtype))
        return steps

    def _check_writable(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            what = f"`checkpoints` must be in a writable folder. Received: {self.folder}: {error.strerror}"
            raise OSError(error.errno, what) from error

    def _path(self, step):
        path = self.folder / _name(step)
        replaced = path.with_name(f"{_REPLACED}{path.name}")
        return replaced if replaced.exists() and not path.exists() else path

    def _read(self, step):
        """`(record, what is wrong or None)`."""
        folder = self._path(step)
        record, problem = read_record(folder, step)
        problem = problem or damage(folder, record)
        return (None, problem) if problem else (record, None)

    def _entries(self):
        try:
            return list(os.scandir(self.folder))
        except FileNotFoundError:
            return []

    def _check(self, record, shapes, dataset, settings):
        changes = format_differences(differences(record.get("settings"), settings))
        named_changes = f". Settings that differ: {changes}" if changes else ""
        if mismatch := _mismatch(record["shapes"], shapes):
            raise ValueError(
                "`checkpoints` must be from this model and optimizer. "
                f"Received: {self.folder}, in which {mismatch}{named_changes}"
            )
        if record["dataset"] != dataset:
            raise ValueError(
                "`checkpoints` must be from this data set, to resume at the same record. "
                f"Received: {self.folder}, from {record['dataset']!r} and not {dataset!r}{named_changes}"
            )

    def _best(self, whole, count):
        values = [(record["logs"].get(self.monitor, math.nan), step) for step, record in whole]
        # NaN cannot be sorted, and infinity is not a valid result.
        values = [(value, step) for value, step in values if math.isfinite(value)]
        return [step for _, step in sorted(values, reverse=self.mode == "max")[:count]]

    def _end_replacements(self):
        """Removes replaced checkpoints, or restores them if the process ended before the new one was in place."""
        for entry in self._entries():
            if entry.name.startswith(_REPLACED) and (name := _NAME.fullmatch(entry.name)):
                path = Path(entry.path)
                if (target := path.with_name(name[1])).is_dir():
                    _remove(path)
                else:
                    # It may be a broken link.
                    with contextlib.suppress(OSError):
                        target.unlink()
                    # Another worker may have done so.
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(path, target)

    def _remove_unfinished(self):
        """Removes unfinished files of killed processes."""
        for entry in self._entries():
            if _UNFINISHED.fullmatch(entry.name):
                _remove(Path(entry.path))

    def _prune(self, step):
        # Later ones are damaged. Neither they nor copies count towards the numbers to keep.
        steps = [known for known in self.steps() if known <= step]
        kept = set([known for known in steps if not read_record(self._path(known), known)[1]][-self.keep :])
        if self.keep_best:
            whole = [(step, record) for step in steps for record in [self._read(step)[0]] if record]
            kept |= set(self._best(whole, self.keep_best))
            logged = {name for _, record in whole for name in record["logs"]}
            if len(steps) > self.keep and self.monitor not in logged:
                warnings.warn(
                    f"`monitor` {self.monitor!r} of `keep_best` is in the logs of no checkpoint, which contain "
                    f"{sorted(logged)}: make `every` a multiple of `validation_freq`",
                    stacklevel=2,
                )
        for step in set(steps) - kept:
            shutil.rmtree(self._path(step), ignore_errors=True)


def _folder(path):
    """Checks that a path is a folder, or does not exist yet, and returns it as a `Path`."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise ValueError(f"`folder` must be the path of a folder. Received: folder={path!r}")
    path = Path(path)
    try:
        if not os.path.lexists(path) or path.is_dir():
            return path
        what = "a broken link" if path.is_symlink() and not path.exists() else "a file"
    except OSError as error:
        what = error.strerror
    raise ValueError(f"`folder` must be a folder, or not exist yet. Received: {path}, {what}")


def _name(step):
    return f"step-{step:08d}"


def _remove(path):
    """Removes a folder or a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def named(kind, variables):
    """Variables by names that do not depend on Keras' automatic numbering."""
    paths = [compat.unnumbered(variable.path) for variable in variables]
    return {f"{kind}/{i}/{path}": v for i, (path, v) in enumerate(zip(paths, variables, strict=True))}


def _storable(array):
    """Converts types that NumPy lacks, such as bfloat16, which would be loaded as bytes."""
    return array.astype("float32") if array.dtype.kind == "V" else array


def _mismatch(stored, wanted):
    stored, wanted = ({name: list(shape) for name, shape in x.items()} for x in (stored, wanted))
    if stored == wanted:
        return None
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            return f"{name} has shape {stored.get(name)} in the checkpoint and {wanted.get(name)} here"


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
