"""Handling of SIGTERM, by which a scheduler asks a training run to stop."""

import contextlib
import signal
import threading

# Exit status of a process that was ended by SIGTERM.
TERMINATED = 128 + signal.SIGTERM
_interruptible = _evaluation = None


class TerminationError(Exception):
    """Raised when SIGTERM arrives during work that can be repeated."""


@contextlib.contextmanager
def interruptible(arrived, evaluations=True):
    """A scope in which `check_interrupted` raises once the event `arrived` is set. None for never.

    With `evaluations`, it also ends a trainer's evaluations. Use False if their caller cannot be called again.
    """
    global _interruptible, _evaluation
    _interruptible, _evaluation = arrived, arrived if evaluations else None
    try:
        yield
    finally:
        _interruptible = _evaluation = None


def ends_evaluation():
    """The event that ends an evaluation, or None."""
    return _evaluation


def check_interrupted():
    """Raises `TerminationError` if SIGTERM has arrived and the current work may be interrupted."""
    if _interruptible is not None and _interruptible.is_set():
        raise TerminationError


@contextlib.contextmanager
def sigterm():
    """Yields an event that is set once SIGTERM arrives. It is never set outside of the main thread."""
    arrived = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = signal.signal(signal.SIGTERM, lambda *_: arrived.set())
    try:
        yield arrived
    finally:
        # None means a handler that was not installed by Python and cannot be restored.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
