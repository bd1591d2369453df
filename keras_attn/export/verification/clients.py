"""Runs artefacts in fresh processes, with the same clients as a deployment."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from keras_attn import compat
from keras_attn.export import registry
from keras_attn.export.verification import fresh_process

TIMEOUT_S = 600


class ClientError(RuntimeError):
    """The runtime cannot load or run an artefact."""


def script(format_name):
    """The client script of a format; see `Format.client`."""
    return registry.load("formats", format_name)().client()


def run(format_name, artefact, cases, repeat=20):
    """Runs the tasks of an artefact on stored cases, all in one process.

    Args:
        format_name: Name of the format, which determines the client.
        artefact: Path of the artefact.
        cases: Dict from task name to the path of its npz file of cases.
        repeat: Number of timed calls, fewer where they are slow.

    Returns:
        A dict from task name to `(outputs, ms, peak_bytes)`: a dict from `"outputs/<case>/<name>"` to arrays, the
        median milliseconds per call, and the peak memory of the process so far, or `None` if unknown.

    Raises:
        ClientError: If the process fails; the message includes its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        outs = {task: Path(folder) / f"{index}.npz" for index, task in enumerate(cases)}
        command = [script(format_name), artefact, "--repeat", repeat]
        for task, out in outs.items():
            command += ["--task", task, "--cases", cases[task], "--out", out]
        imported = registry.load("formats", format_name)().slow_import(Path(artefact))
        # Verification is on the CPU, as the parent process may occupy all GPU memory.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        # onnxruntime_extensions sets it to the one in Python when imported, which takes seconds to read a SavedModel.
        environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = compat.protobuf_implementation()
        try:
            status, written = fresh_process.run(command, environment, TIMEOUT_S, imported)
        except subprocess.TimeoutExpired as error:
            raise ClientError(f"did not answer within {TIMEOUT_S} s") from error
        if status != 0:
            raise ClientError(f"exit status {status}: {_reason(written.decode('utf-8', 'replace'))}")
        return {task: _answer(out) for task, out in outs.items()}


def _answer(path):
    with np.load(path, allow_pickle=False) as answer:
        outputs = {name: answer[name] for name in answer.files if name.startswith("outputs/")}
        return outputs, float(answer["ms"]), int(answer["peak_bytes"]) or None


def _reason(written):
    """The exception that ended a process, on one line, or else its last line of output."""
    _, traceback, rest = written.rpartition("Traceback (most recent call last):\n")
    lines = rest.strip("\n").splitlines()
    if traceback:
        return " ".join(line.strip() for line in lines if not line.startswith(" "))
    return lines[-1] if lines else "no message"
