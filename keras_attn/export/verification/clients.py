"""Runs an artefact in a fresh process, through the client that a deployment would use."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from keras_attn.export import registry
from keras_attn.export.verification import fresh_process

TIMEOUT_S = 600


class ClientError(RuntimeError):
    """The runtime could not load or run an artefact."""


def script(format_name):
    """The client of a format; see `Format.client`."""
    return registry.load("formats", format_name)().client()


def run(format_name, artefact, cases, repeat=20):
    """Runs an artefact's tasks on stored cases, all in one process.

    Args:
        format_name: name of the format, which chooses the client.
        artefact: path of the artefact.
        cases: dict from a task's name to the path of the npz file of its cases.
        repeat: number of timed calls.

    Returns:
        A dict from a task's name to `(outputs, ms, peak_bytes)`: a dict from `"outputs/<case>/<name>"` to arrays, the
        median milliseconds of a call, and the most memory that the process had taken by then, or `None` where the
        system does not say.

    Raises:
        ClientError: the process failed; the message says with what.
    """
    with tempfile.TemporaryDirectory() as folder:
        outs = {task: Path(folder) / f"{index}.npz" for index, task in enumerate(cases)}
        command = [script(format_name), artefact, "--repeat", repeat]
        for task, out in outs.items():
            command += ["--task", task, "--cases", cases[task], "--out", out]
        imported = registry.load("formats", format_name)().slow_import(Path(artefact))
        # The parent may hold the whole memory of an accelerator, and parity is claimed on the CPU.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
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
    """The exception that ended a process, on one line; else the last line that it wrote."""
    _, traceback, rest = written.rpartition("Traceback (most recent call last):\n")
    lines = rest.strip("\n").splitlines()
    if traceback:
        return " ".join(line.strip() for line in lines if not line.startswith(" "))
    return lines[-1] if lines else "no message"
