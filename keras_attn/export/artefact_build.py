"""Writes and verifies the artefacts of one format and precision."""

import logging
import shutil

from keras_attn.export import memory
from keras_attn.export.conversion import convert_or_raise
from keras_attn.export.folder import manifest
from keras_attn.export.formats.float_constants import float_constants
from keras_attn.export.verification import diagnosis, verification

LOGGER = logging.getLogger("keras_attn.export")


class ArtefactBuild:
    """Builds the artefacts of some tasks in one format and precision.

    Args:
        writer: The `FormatWriter` of the format.
        tasks: List of `Task`.
        converted: Result of `writer.convert` for the tasks.
        folder: The workspace, which holds the cases of the tasks.
        precision: Name of the precision.
        calibration: Cases by task name, or `None`.
        max_accuracy_drop: A number, or `None`.
        files: Texts to attach to each artefact, by file name.
    """

    def __init__(self, writer, tasks, converted, folder, precision, calibration, max_accuracy_drop, files):
        self.writer, self.tasks, self.converted, self.folder = writer, tasks, converted, folder
        self.precision, self.calibration, self.max_accuracy_drop = precision, calibration, max_accuracy_drop
        self.files, self.entries, self.rows, self.float32_weights = files, [], [], ()

    @property
    def ok(self):
        """Whether all artefacts were written and agree."""
        return bool(self.rows) and all(row["ok"] for row in self.rows)

    def write(self, float32_weights):
        """Writes and verifies the artefacts; variables in `float32_weights` stay in float32."""
        self.entries, self.rows, self.float32_weights = [], [], float32_weights
        for task in self.tasks:
            for name in manifest.parts(self.folder, self.writer.path(task.name, self.precision)):
                _remove(self.folder / name)
        what = f"{self.writer.name}, {self.precision}"
        LOGGER.info("%s: writing%s", what, f", {len(float32_weights)} weights in float32" if float32_weights else "")
        convert_or_raise(self.writer, self.tasks, self._write, self.converted, self.folder, self.calibration)
        requests = {}
        for task in self.tasks:
            path = self.folder / self.writer.path(task.name, self.precision)
            requests.setdefault(path, {})[task.name] = self._first_case(task)
        for path, by_task in requests.items():
            self.writer.attach(path, self.files, by_task)
        for task in self.tasks:
            entry = manifest.entry(self.folder, self.writer, task.name, self.precision)
            entry["tokenizer"] = manifest.tokenizer(task.tokenizer)
            entry["inputs"] = manifest.inputs(task, self._first_case(task))
            entry["keep_float"] = [variable.path for variable in float32_weights]
            entry["max_accuracy_drop"] = self.max_accuracy_drop
            self.entries.append(entry)
        LOGGER.info("%s: verifying %s", what, ", ".join(task.name for task in self.tasks))
        memory.release()
        self.rows = verification.check(self.folder, self.entries)

    def search(self, candidates):
        """Tries lists of float32 weights in turn, until the artefacts agree or fail to run."""
        for float32_weights in candidates:
            self.write(float32_weights)
            if self.ok or any(row["ms"] is None for row in self.rows):
                return

    def failure(self):
        """The error message for a build that is not `ok`; names the first layer that differs, if it can be found."""
        if not self.rows:
            return (
                f"{self.writer.name}: no combination of {self.precision} and float32 weights loses at most "
                f"{self.max_accuracy_drop:.2%}, not even with a single weight in {self.precision}"
            )
        index = next(index for index, row in enumerate(self.rows) if not row["ok"])
        row, task = self.rows[index], self.tasks[index]
        message = f"does not agree with the model: {row['message']}"
        if self.precision != "float32" and self.precision not in self.writer.selective:
            message += f"; {self.writer.name} in {self.precision} cannot keep weights in float32"
        cases = self.folder / self.entries[index]["cases"]
        # In `step`, the first cache is always empty.
        if task.name == "forward" and (empty := verification.empty_tensors(cases)):
            message += f"; {self.writer.name} may not support the axes of size 0 of {', '.join(empty)}"
            return f"{message}: remove them from the model, or pass `samples` without them"
        if "case" not in row:
            return message
        LOGGER.info("%s, %s: looking for the first layer that differs", self.writer.name, self.precision)
        try:
            case = verification.stored_case(cases, row["case"])
            row["first"] = diagnosis.first_difference(task, case, self._write_one, self.writer.name, self.precision)
        except Exception as error:  # an error of the search must not hide the original message
            LOGGER.info("the search failed: %s", error)
            return message
        return message + (f"; first {row['first']}" if row["first"] else "; no single layer differs")

    def _first_case(self, task):
        return verification.stored_case(self.folder / manifest.cases_name(task.name), 0)

    def _write(self, converted, folder, calibration):
        keep = [*self.float32_weights, *float_constants(self.tasks[0].model)]
        self.writer.write(converted, folder, self.precision, keep, calibration)

    def _write_one(self, task, folder):
        """Writes the artefact of another task with the same settings and returns its path."""
        calibration = {task.name: (self.calibration or {}).get(task.name) or task.cases()}
        self._write(self.writer.convert([task], folder), folder, calibration)
        return folder / self.writer.path(task.name, self.precision)


def _remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
