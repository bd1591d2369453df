"""Moves of artefacts that end at a chosen line. As a script, without TensorFlow: by SIGKILL, at many lines."""

import contextlib
import json
import os
import shutil
import signal
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("model.tflite", "manifest.json", "verification/forward.npz", "a_folder_before")
FOLDERS = ("saved_model", "a_file_before")
# The last two are gone afterwards, there or not.
NAMES = [*FILES, *FOLDERS, "model.tflite.data", "saved_model.data"]


def make_old(path):
    for name in (
        "saved_model/a",
        "saved_model/b",
        "a_folder_before/a",
        "a_file_before",
        "model.tflite",
        "manifest.json",
    ):
        _write(path / name, "old")
    _write(path / "model.tflite.data", "old")
    _write(path / "of_somebody_else", "kept")


def make_new(staging, path):
    with staging.workspace(path) as folder:
        for name in (*FILES, *(f"{name}/a" for name in FOLDERS)):
            _write(folder / name, "new")
        staging.install(folder, NAMES, path)


def content(path):
    return {str(file.relative_to(path)): file.read_text() for file in sorted(path.rglob("*")) if file.is_file()}


def ended_at(line, fault, staging, path):
    """Whether a line of that number, counted as they are run, was reached and `fault()` happened there."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename in (staging.__file__, staging.folder_lock.__file__):
            count += event == "line"
            if event == "line" and count == line:
                fault()
            return trace

    shutil.rmtree(path, ignore_errors=True)
    make_old(path)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            make_new(staging, path)
    finally:
        sys.settrace(before)
    return count >= line


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _without_tensorflow():
    """`staging`, without what the package imports first."""
    for name in ("keras_attn", "keras_attn.export"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(ROOT / name.replace(".", "/"))]
    from keras_attn.export.folder import staging

    return staging


def _killed_at(line, staging, path):
    child = os.fork()
    if child == 0:
        ended_at(line, lambda: os.kill(os.getpid(), signal.SIGKILL), staging, path)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    staging, path, line, found = _without_tensorflow(), Path(sys.argv[1]), 1, []
    while _killed_at(line, staging, path):
        left = content(path)
        with staging.workspace(path):
            pass
        found.append([left, content(path)])
        line += 3
    print(json.dumps(found))
