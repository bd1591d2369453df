"""The signal by which a scheduler asks a training run to stop."""

import contextlib
import signal
import threading

# The exit status of a process that it ended.
TERMINATED = 128 + signal.SIGTERM


@contextlib.contextmanager
def sigterm():
    """An event that is set once SIGTERM arrives; in other threads than the main one, where none can, it never is."""
    arrived = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = signal.signal(signal.SIGTERM, lambda *_: arrived.set())
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGTERM, before)
