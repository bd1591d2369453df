"""States of a training on disk, each proven whole before it is used."""

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
from keras_attn.training.checkpoints.run_settings import differences, in_words, unnumbered
from keras_attn.typing import Array, PathLike

# What was there of the same step, until the new one has its name.
_REPLACED = ".replaced."
_NAME = re.compile(rf"(?:{re.escape(_REPLACED)})?(step-([0-9]{{8,}}))")
_UNFINISHED = re.compile(r"\.step-[0-9]{8,}\.[0-9]+")
# Ten seconds: what saves to the same folder without a `fit` takes turns.
_TRIES = 500


class Checkpoints:
    """A folder of the last, and the best, states of a training.

    A checkpoint is a folder `step-00001000`: `state.npz` holds weights, optimizer, random states and what callbacks
    remember, `model.keras` the model, and `checkpoint.json` the step, the logs, the settings of the training run and
    the SHA-256 of all three. It is written under a temporary name, and renamed when it is complete. A damaged one is
    named in a warning and passed over. What a process that was killed left behind is removed by the next.

    One training run at a time writes to a folder: while `Trainer.fit` runs, it holds a lock on the file `.lock` in it,
    which another one is told of at its start, and which a process that was killed does not hold. Reading needs none.

    `Trainer.fit` goes on from the latest one, at the record of the data where that stopped. Settings that differ from
    those of the checkpoint are named: in a warning if they are used (`accumulation_steps`, learning rate, seed, loss,
    metrics, ...), in an error if they cannot be (another data set of this package, a batch size with which no batch
    begins at that record, an optimizer with other variables). docs/many_machines.md lists all of them.

    Args:
        folder: where to write. On several workers, one that all of them see.
        every: steps between two checkpoints. The last step of a training is always kept.
        keep: how many of the latest to keep.
        keep_best: how many to keep of those with the best finite `monitor`; a checkpoint has validation figures if
            `every` is a multiple of `validation_freq`.
        monitor: name of a validation figure, as `"val_loss"`. `Trainer.fit` refuses one that nothing will log.
        mode: `"min"` or `"max"`, which values of `monitor` are good.

    Raises:
        ValueError: a number is not positive, `mode` is another, or `folder` is a file.

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
            raise ValueError(f"`monitor` must be the name of a figure. Received: monitor={monitor!r}")
        self.keep, self.keep_best, self.monitor, self.mode = keep, keep_best, monitor, mode
        self._lock = FolderLock(self.folder)

    def steps(self) -> list[int]:
        """The steps of which there are checkpoints, whole or damaged, in ascending order."""
        names = [(entry, name) for entry in self._entries() if (name := _NAME.fullmatch(entry.name))]
        return sorted({int(n[2]) for entry, n in names if n[1] == _name(int(n[2])) and Path(entry.path).is_dir()})

    @contextlib.contextmanager
    def writing(self, tries: int = 1) -> Iterator[None]:
        """A scope in which nobody else may write to the folder, and which begins with its being tidied up.

        Args:
            tries: how often to try, a fiftieth of a second apart.

        Raises:
            FolderInUseError: a `ValueError` and an `OSError`: another training run writes to the folder.
            OSError: nothing can be written there, which a single try, by who may only read, does not ask.
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
        """Writes a checkpoint, and removes those that are no longer to be kept.

        Args:
            step: number of updates so far.
            state: dict of arrays by name.
            model: the `keras.Model`.
            logs: dict of figures.
            dataset: what the data are known by, a string or None.
            memory: more arrays by name, which need not fit where a training goes on.
            settings: the settings of the training run, see `run_settings.py`, or None.

        Raises:
            OSError: it could not be written; earlier ones are as they were.
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
        """The latest checkpoint that is whole: `(step, state and memory)`, or None where there is none at all.

        Args:
            shapes: the shapes that the state must have, by name.
            dataset: what the data are known by, a string or None.

        Raises:
            ValueError: the checkpoint is of another model, optimizer or data set, or all are damaged.
        """
        found = self.latest_record(shapes, dataset)
        return found and (found[0]["step"], found[1])

    def latest_record(
        self, shapes: Mapping[str, Sequence[int]], dataset: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """As `latest`, with the content of `checkpoint.json` instead of the step.

        Args:
            shapes, dataset: see `latest`.
            settings: the settings of the training run that goes on, of which those that differ are named in errors.
        """
        if self.folder.exists():
            # Whoever writes there has tidied it up.
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
            warnings.warn(f"{self._path(step)} is damaged and not used: {problem}", stacklevel=3)
        if steps:
            raise ValueError(
                f"`checkpoints` must hold one that is whole. Received: {self.folder}, where all are damaged; delete "
                "them, or name another folder, to begin anew"
            )
        return None

    def average(self, model: keras.Model, last: int | None = None, best: int | None = None) -> list[int]:
        """Sets the weights of a model to the mean of those of several checkpoints.

        Args:
            model: a model of the same weights.
            last: how many of the latest to take.
            best: how many of the best by `monitor`; one of both must be given.

        Returns:
            The steps of the checkpoints that were averaged.

        Raises:
            ValueError: not one of `last` and `best` was given, there are not as many, or they are of another model.

        Reference:
            [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 6.1
        """
        if (last is None) == (best is None):
            raise ValueError(f"One of `last` and `best` must be given. Received: last={last}, best={best}")
        whole = [(step, record) for step in self.steps() for record, problem in [self._read(step)] if not problem]
        steps = [step for step, _ in whole][-(last or 0) :] if best is None else self._best(whole, best)
        if len(steps) != (last or best) or not steps:
            wanted = f"last={last}, with {len(steps)} there"
            if best is not None:
                wanted = f"best={best}, with {len(steps)} there that have a finite {self.monitor!r}"
            raise ValueError(f"`{self.folder}` must hold that many checkpoints. Received: {wanted}")
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
            what = (
                f"`checkpoints` must be in a folder that can be written to. Received: {self.folder}: {error.strerror}"
            )
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
        changes = in_words(differences(record.get("settings"), settings))
        named_changes = f". Settings that differ: {changes}" if changes else ""
        if mismatch := _mismatch(record["shapes"], shapes):
            raise ValueError(
                "`checkpoints` must be those of this model and optimizer. "
                f"Received: {self.folder}, where {mismatch}{named_changes}"
            )
        if record["dataset"] != dataset:
            raise ValueError(
                "`checkpoints` must be those of this data set, or the data would not go on where they stopped. "
                f"Received: {self.folder}, of {record['dataset']!r} and not {dataset!r}{named_changes}"
            )

    def _best(self, whole, count):
        values = [(record["logs"].get(self.monitor, math.nan), step) for step, record in whole]
        # NaN is neither more nor less than a number, so it would stay where it is; an infinity is no result either.
        values = [(value, step) for value, step in values if math.isfinite(value)]
        return [step for _, step in sorted(values, reverse=self.mode == "max")[:count]]

    def _end_replacements(self):
        """Removes checkpoints that were replaced; one that was not, as the process ended before, has its name back."""
        for entry in self._entries():
            if entry.name.startswith(_REPLACED) and (name := _NAME.fullmatch(entry.name)):
                path = Path(entry.path)
                if (target := path.with_name(name[1])).is_dir():
                    _remove(path)
                else:
                    # It may be a link to nothing.
                    with contextlib.suppress(OSError):
                        target.unlink()
                    # Another worker may be first.
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(path, target)

    def _remove_unfinished(self):
        """Removes what processes that were killed had begun to write."""
        for entry in self._entries():
            if _UNFINISHED.fullmatch(entry.name):
                _remove(Path(entry.path))

    def _prune(self, step):
        # Later ones were passed over as damaged: neither they nor copies must take the places of whole ones.
        steps = [known for known in self.steps() if known <= step]
        kept = set([known for known in steps if not read_record(self._path(known), known)[1]][-self.keep :])
        if self.keep_best:
            whole = [(step, record) for step in steps for record in [self._read(step)[0]] if record]
            kept |= set(self._best(whole, self.keep_best))
            logged = {name for _, record in whole for name in record["logs"]}
            if len(steps) > self.keep and self.monitor not in logged:
                warnings.warn(
                    f"`monitor` {self.monitor!r} of `keep_best` is in the logs of no checkpoint, which are "
                    f"{sorted(logged)}: let `every` be a multiple of `validation_freq`",
                    stacklevel=2,
                )
        for step in set(steps) - kept:
            shutil.rmtree(self._path(step), ignore_errors=True)


def _folder(path):
    """A `Path` that is a folder, or may become one."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise ValueError(f"`folder` must be the path of a folder. Received: folder={path!r}")
    path = Path(path)
    try:
        if not os.path.lexists(path) or path.is_dir():
            return path
        what = "a link to what is not there" if path.is_symlink() and not path.exists() else "a file"
    except OSError as error:
        what = error.strerror
    raise ValueError(f"`folder` must be a folder, or not be there yet. Received: {path}, {what}")


def _name(step):
    return f"step-{step:08d}"


def _remove(path):
    """Removes a folder, or a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def named(kind, variables):
    """Variables by names that are the same in every process, whatever Keras numbered before."""
    paths = [unnumbered(variable.path) for variable in variables]
    return {f"{kind}/{i}/{path}": v for i, (path, v) in enumerate(zip(paths, variables, strict=True))}


def _storable(array):
    """The array as a type of NumPy's own: bfloat16 is none, and would come back as bytes."""
    return array.astype("float32") if array.dtype.kind == "V" else array


def _mismatch(stored, wanted):
    stored, wanted = ({name: list(shape) for name, shape in x.items()} for x in (stored, wanted))
    if stored == wanted:
        return None
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            return f"{name} has shape {stored.get(name, 'of nothing')} and not {wanted.get(name, 'of nothing')}"


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
