"""One format and precision: artefacts that are written and verified in the workplace until they are near enough."""

import logging
import shutil

from keras_attn.export.conversion import tried
from keras_attn.export.folder import manifest
from keras_attn.export.verification import diagnosis, verification

LOGGER = logging.getLogger("keras_attn.export")


class Attempt:
    """The artefacts of tasks in one format and precision.

    Args:
        emitter: the format's `Emitter`.
        tasks: list of `Task`.
        converted: what `emitter.convert` made of them.
        folder: the workplace, in which the tasks' cases lie.
        precision: name of the precision.
        calibration: cases by task name, or `None`.
        max_accuracy_drop: a number, or `None`.
        files: what goes into each artefact besides, texts by name.
    """

    def __init__(self, emitter, tasks, converted, folder, precision, calibration, max_accuracy_drop, files):
        self.emitter, self.tasks, self.converted, self.folder = emitter, tasks, converted, folder
        self.precision, self.calibration, self.max_accuracy_drop = precision, calibration, max_accuracy_drop
        self.files, self.entries, self.rows, self.kept = files, [], [], ()

    @property
    def ok(self):
        """Whether all artefacts were written and agree."""
        return bool(self.rows) and all(row["ok"] for row in self.rows)

    def write(self, keep):
        """Writes and checks the artefacts; `keep` are variables in float32."""
        self.entries, self.rows, self.kept = [], [], keep
        for task in self.tasks:
            for name in manifest.parts(self.folder, self.emitter.path(task.name, self.precision)):
                _remove(self.folder / name)
        what = f"{self.emitter.name}, {self.precision}"
        LOGGER.info("%s: writing%s", what, f", {len(keep)} weights in float32" if keep else "")
        tried(self.emitter, self.tasks, self._write, self.converted, self.folder, self.calibration)
        requests = {}
        for task in self.tasks:
            path = self.folder / self.emitter.path(task.name, self.precision)
            requests.setdefault(path, {})[task.name] = self._first_case(task)
        for path, by_task in requests.items():
            self.emitter.attach(path, self.files, by_task)
        for task in self.tasks:
            entry = manifest.entry(self.folder, self.emitter, task.name, self.precision)
            entry["tokenizer"] = manifest.tokenizer(task.tokenizer)
            entry["inputs"] = manifest.inputs(task, self._first_case(task))
            entry["keep_float"] = [variable.path for variable in keep]
            entry["max_accuracy_drop"] = self.max_accuracy_drop
            self.entries.append(entry)
        LOGGER.info("%s: verifying %s", what, ", ".join(task.name for task in self.tasks))
        self.rows = verification.check(self.folder, self.entries)

    def search(self, mixes):
        """Writes with one list of kept variables after another, until the artefacts agree or do not even run."""
        for keep in mixes:
            self.write(keep)
            if self.ok or any(row["ms"] is None for row in self.rows):
                return

    def failure(self):
        """Why it is not `ok`, in words, with the first layer that differs where one can be named."""
        if not self.rows:
            return (
                f"{self.emitter.name}: no mix of {self.precision} and float32 loses at most "
                f"{self.max_accuracy_drop:.2%}: any that keeps all weights but one in float32 loses more"
            )
        index = next(index for index, row in enumerate(self.rows) if not row["ok"])
        row, task = self.rows[index], self.tasks[index]
        message = f"does not agree with the model: {row['message']}"
        if self.precision != "float32" and self.precision not in self.emitter.selective:
            message += f"; {self.emitter.name} in {self.precision} keeps no weight in float32"
        cases = self.folder / self.entries[index]["cases"]
        # A step's first cache is empty in every runtime.
        if task.name == "forward" and (empty := verification.empty_tensors(cases)):
            message += f"; {self.emitter.name} may not take the axes of size 0 of {', '.join(empty)}"
            return f"{message}: leave them out of the model, or give `samples` without"
        if "case" not in row:
            return message
        LOGGER.info("%s, %s: looking for the first layer that differs", self.emitter.name, self.precision)
        try:
            case = verification.stored_case(cases, row["case"])
            row["first"] = diagnosis.first_difference(task, case, self._write_one, self.emitter.name, self.precision)
        except Exception as error:  # whatever the search meets, what it was started for is the news
            LOGGER.info("the search failed: %s", error)
            return message
        return message + (f"; first {row['first']}" if row["first"] else "; no layer by itself differs")

    def _first_case(self, task):
        return verification.stored_case(self.folder / manifest.cases_name(task.name), 0)

    def _write(self, converted, folder, calibration):
        self.emitter.write(converted, folder, self.precision, self.kept, calibration)

    def _write_one(self, task, folder):
        """The path of another task's artefact, written in the same way."""
        calibration = {task.name: (self.calibration or {}).get(task.name) or task.cases()}
        self._write(self.emitter.convert([task], folder), folder, calibration)
        return folder / self.emitter.path(task.name, self.precision)


def _remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
