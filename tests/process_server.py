"""Programs that start at once: forked from a process that has imported what they need, and used nothing of it.

Reads lines of JSON, each a list of programs that run at the same time, and answers each with a line of what became of
them: `{"returncode": ..., "stdout": ..., "stderr": ...}`. A program is `{"environment": {...}}` and either `settings`,
those of tests/training_run.py, or a `script` with its `arguments`.
"""

import contextlib
import gc
import json
import os
import signal
import sys
import tempfile
import time

import training_run

SECONDS = 240


def serve():
    """Answers all requests. Returns a program in the process that is to run it, and None in the end."""
    # Programs do not collect garbage among what was imported, nor copy its memory.
    gc.freeze()
    for line in sys.stdin:
        with contextlib.ExitStack() as files:
            running = []
            for program in json.loads(line):
                streams = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in ("stdout", "stderr")]
                if not (child := os.fork()):
                    for descriptor, stream in enumerate([open(os.devnull), *streams]):  # noqa: SIM115
                        os.dup2(stream.fileno(), descriptor)
                    os.environ.update(program["environment"])
                    return program
                running.append((child, streams))
            deadline = time.monotonic() + SECONDS
            results = [result_of(child, deadline, *streams) for child, streams in running]
            print(json.dumps(results), flush=True)
    return None


def result_of(child, deadline, *streams):
    """As `subprocess.run` gives it; of a process that is killed if it takes too long."""
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    for stream in streams:
        stream.seek(0)
    stdout, stderr = (stream.read() for stream in streams)
    return {"returncode": os.waitstatus_to_exitcode(ended[1]), "stdout": stdout, "stderr": stderr}


if __name__ == "__main__" and (program := serve()):
    if "settings" in program:
        training_run.main(program["settings"])
    else:
        sys.argv = ["-c", *program["arguments"]]
        exec(program["script"], {"__name__": "__main__"})
