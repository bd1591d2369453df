"""Runs Python scripts in fresh processes without repeating slow imports."""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from keras_attn.export.verification import fork_server

# Seconds until a server without work ends, which takes as much memory as its module.
IDLE_S = 60
_servers, _lock = {}, threading.Lock()


def run(command, environment, timeout, imported=None):
    """Runs a script as `python <command>` does.

    With `imported`, the process is forked from a server that has only imported that module and is kept for the next
    script. If forking is not safe or the import fails, a new process is started instead.

    Args:
        command: Path of the script, and its arguments.
        environment: Dict of environment variables.
        timeout: Seconds until it is killed.
        imported: Name of a module that the script imports and that is slow to import; or `None`.

    Returns:
        The exit status, negative for a signal, and its stdout and stderr together, as bytes.

    Raises:
        subprocess.TimeoutExpired: If it does not end in time.
    """
    command = [str(part) for part in command]
    # Forking is not safe with the system libraries of other platforms.
    if imported and sys.platform == "linux":
        with _lock:
            for _ in range(2):
                server = _server(imported, environment)
                try:
                    return server.run(command, environment, timeout)
                except BaseException as error:
                    _servers.pop(imported).close()
                    # The server ends after a time without a script, and never starts if the import fails.
                    if not isinstance(error, EOFError | BrokenPipeError):
                        raise
    process = subprocess.run(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout
    )
    return process.returncode, process.stdout


def _server(imported, environment):
    server = _servers.get(imported)
    # A fork of this process must not use the server of its parent.
    if server is None or server.owner != os.getpid():
        server = _servers[imported] = _Server(imported, environment)
    return server


class _Server:
    """A process that runs `fork_server.py`, which runs one script at a time."""

    def __init__(self, imported, environment):
        # `-P` keeps the folder of the program out of `sys.path`.
        program = [sys.executable, "-P", fork_server.__file__, imported, str(IDLE_S)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        # In its own session, it can be killed together with its fork, and does not receive Ctrl-C.
        self.process = subprocess.Popen(program, env=environment, bufsize=0, start_new_session=True, **pipes)
        self.owner = os.getpid()

    def run(self, command, environment, timeout):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "output")
            request = {"command": command, "directory": os.getcwd(), "environment": environment, "output": str(output)}
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            status = self._answer(command, timeout)
            return status, output.read_bytes() if output.exists() else b""

    def _answer(self, command, timeout):
        ready = select.poll()
        ready.register(self.process.stdout, select.POLLIN)
        if not ready.poll(1000 * timeout):
            raise subprocess.TimeoutExpired(command, timeout)
        answer = self.process.stdout.readline()
        if not answer:
            raise EOFError("the server has ended")
        return int(answer)

    def close(self):
        """Ends the process and its fork."""
        if self.owner == os.getpid() and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@atexit.register
def _close():
    for server in _servers.values():
        server.close()
