"""The clients of export/, run as a deployment runs them."""

import subprocess
import sys

from training_processes import run_script

from keras_attn.export.verification import clients

CODE = """
import os, runpy, sys
sys.modules.update(dict.fromkeys({forbidden}))
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
sys.stdout.reconfigure(encoding="utf-8")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(format, artefact, *arguments, forbidden=()):
    """A process of the client of a format, which cannot import `forbidden`: its `returncode`, `stdout` and `stderr`."""
    code, command = CODE.format(forbidden=forbidden), [clients.script(format), artefact, *arguments]
    # A fork has imported keras_attn already, and the operators of tokenizers in ONNX end a process that is one.
    if format != "onnx" and not forbidden:
        return run_script(code, *command)
    return subprocess.run([sys.executable, "-c", code, *command], capture_output=True, encoding="utf-8")
