"""The signal by which a scheduler asks a training run to stop."""

import contextlib
import signal
import threading

# The exit status of a process that it ended.
TERMINATED = 128 + signal.SIGTERM
_interruptible = _evaluation = None


class TerminationError(Exception):
    """Says that SIGTERM has arrived while something was done that can be done again."""


@contextlib.contextmanager
def interruptible(arrived, evaluations=True):
    """A scope in which `check_interrupted` raises once the event `arrived` is set; None for never.

    So do `evaluations` by a trainer, unless what calls them could not be called anew.
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
    """Raises `TerminationError` where somebody waits for the end of what is done, and it may be done again."""
    if _interruptible is not None and _interruptible.is_set():
        raise TerminationError


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
        # None: a handler that is not Python's, which it cannot put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
