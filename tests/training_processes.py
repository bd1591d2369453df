"""Trainings of tests/training_run.py in processes of their own, forked by tests/process_server.py."""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent


def run(**settings):
    """A training in a process of its own: its `returncode`, `stdout` and `stderr`."""
    return _run({"settings": settings})[0]


def run_script(script, *arguments):
    """Python code in a process of its own, which can import the modules of this folder.

    keras_attn is imported already: a test of what a program imports itself starts a new process.
    """
    return _run({"script": script, "arguments": [str(argument) for argument in arguments]})[0]


def run_group(workers=2, **settings):
    """A training of several workers, in a network of their own; their exit statuses."""
    if not _has_namespaces():
        pytest.skip("needs a network namespace: TensorFlow's ports listen on every interface")
    with socket.socket() as a, socket.socket() as b:
        addresses = [f"localhost:{s.bind(('localhost', 0)) or s.getsockname()[1]}" for s in (a, b)][:workers]
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}} for i in range(workers)]
    results = _run(*({"settings": settings, "environment": {"TF_CONFIG": json.dumps(task)}} for task in tasks))
    return [result.returncode for result in results]


def _run(*programs):
    server = _server()
    print(json.dumps([{"environment": {}, **program} for program in programs]), file=server.stdin, flush=True)
    answer = server.stdout.readline()
    assert answer, "the server has ended"
    return [types.SimpleNamespace(**result) for result in json.loads(answer)]


@functools.cache
def _server():
    """It ends with this process, which closes its standard input."""
    command = [sys.executable, str(FOLDER / "process_server.py")]
    if _has_namespaces():
        command = ["unshare", "-rn", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh", *command]
    path = os.pathsep.join([os.getcwd(), str(FOLDER)])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, text=True, **pipes)


@functools.cache
def _has_namespaces():
    found = shutil.which("unshare")
    return bool(found) and not subprocess.run([found, "-rn", "true"], capture_output=True).returncode


def weights(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


def largest_difference(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
