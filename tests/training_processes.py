"""Trainings of tests/training_run.py in processes of their own."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("training_run.py")


def run(**settings):
    """A training in a process of its own; its exit status."""
    return _python(str(PROGRAM), json.dumps(settings))


def run_script(script):
    """A program of its own, which may import what stands in this folder."""
    return _python("-c", script)


def _python(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(PROGRAM.parent)])}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


def run_group(workers=2, **settings):
    """A training of several workers, in a network of their own; their exit statuses."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("needs a network namespace: TensorFlow's ports listen on every interface")
    with socket.socket() as a, socket.socket() as b:
        addresses = [f"localhost:{s.bind(('localhost', 0)) or s.getsockname()[1]}" for s in (a, b)][:workers]
    command = json.dumps([sys.executable, str(PROGRAM), json.dumps(settings)])
    script = f"""
import json, os, subprocess, time
processes = []
for index in range({workers}):
    config = {{"cluster": {{"worker": {addresses!r}}}, "task": {{"type": "worker", "index": index}}}}
    environment = {{**os.environ, "PYTHONPATH": os.getcwd(), "TF_CONFIG": json.dumps(config)}}
    processes.append(subprocess.Popen({command}, env=environment))
print([process.wait(timeout=240) for process in processes])
"""
    shell = 'ip link set lo up 2>/dev/null; exec "$0" -c "$1"'
    result = subprocess.run(
        ["unshare", "-rn", "sh", "-c", shell, sys.executable, script], capture_output=True, text=True, timeout=300
    )
    assert result.stdout, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def weights(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


def largest_difference(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
