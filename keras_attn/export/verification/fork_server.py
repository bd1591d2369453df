"""The server program of `fresh_process`: imports a module once, and runs each script in a fork.

    python fork_server.py tensorflow 60

Reads one line of JSON per script, the arguments of `become`, and writes the exit status as a line. Ends at the end of
its input, or after the given seconds without a request.
"""

import gc
import importlib
import json
import os
import runpy
import select
import sys


def serve(requests, answers, idle_s):
    """Serves requests until there are none; in a fork, returns the request to run."""
    while select.select([requests], [], [], idle_s)[0]:
        line = requests.readline()
        if not line:
            break
        fork = os.fork()
        if not fork:
            return json.loads(line)
        _, status = os.waitpid(fork, 0)
        answers.write(b"%d\n" % os.waitstatus_to_exitcode(status))
    return None


def become(command, directory, environment, output):
    """Runs `command` in this process, with the given working directory, environment and output file."""
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor, source in ((0, nothing), (1, written), (2, written)):
        os.dup2(source, descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    sys.path.insert(0, os.path.dirname(command[0]))
    runpy.run_path(command[0], run_name="__main__")


def _main():
    # Unbuffered, as `select` does not see buffered input. Output of the imported module goes to stderr.
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # Little of what an import makes is garbage, and looking for it takes a fifth of the time.
    gc.disable()
    importlib.import_module(sys.argv[1])
    # At its end, a fork would spend seconds on collecting what was imported.
    gc.freeze()
    gc.enable()
    request = serve(requests, answers, float(sys.argv[2]))
    if request is not None:
        requests.close()
        answers.close()
        become(**request)


if __name__ == "__main__":
    _main()
