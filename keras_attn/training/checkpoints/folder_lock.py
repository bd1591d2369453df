"""A lock on a folder, which ends with the process that holds it."""

import contextlib
import errno
import os
import socket
import time
from pathlib import Path

_NAME, _PAUSE, _WAITS = ".lock", 0.02, " somebody waits"


class FolderInUseError(BlockingIOError, ValueError):
    """Says who else writes to a folder."""


class FolderLock:
    """Lets one at a time write to a folder, be it in this process or in another one, on this machine or another.

    The operating system holds the lock for as long as the file `.lock` is open, so that a process that was killed holds
    none. Some network file systems know no locks: there nobody is kept out.

    Args:
        folder: what to lock; it is made where it is not there.
    """

    def __init__(self, folder):
        self._path = Path(folder) / _NAME
        self._depth, self._descriptor, self._process = 0, None, None

    @contextlib.contextmanager
    def held(self, tries=1):
        """A scope in which this holds the lock; it may be entered again inside.

        Args:
            tries: how often to try, a fiftieth of a second apart.

        Yields:
            Whether the lock is held: False where there are none.

        Raises:
            FolderInUseError: somebody else holds it.
        """
        if not self._depth:
            self._descriptor, self._process = self._acquired(tries), os.getpid()
        self._depth += 1
        try:
            yield self._descriptor is not None
        finally:
            self._depth -= 1
            if not self._depth and self._descriptor is not None and self._process == os.getpid():
                _OPEN.discard(self._descriptor)
                # Whoever waits for it looks whether the file that he has opened is still there.
                somebody_waits = _is_marked(self._descriptor)
                with contextlib.suppress(OSError):
                    self._path.unlink()
                os.close(self._descriptor)
                self._descriptor = None
                if somebody_waits:
                    # Who would take the lock again at once would keep others out for ever.
                    time.sleep(2 * _PAUSE)

    def _acquired(self, tries):
        """The open file that is locked, or None where files cannot be."""
        try:
            import fcntl
        except ImportError:
            return None
        # Not until some time: a clock may jump.
        while True:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._path.is_symlink():
                    # Whatever it leads to would be overwritten.
                    self._path.unlink()
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
            except OSError:
                return None
            tries -= 1
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(self._path, descriptor):
                    _sign(descriptor)
                    _OPEN.add(descriptor)
                    return descriptor
                tries += 1
            except BlockingIOError:
                if tries <= 0:
                    owner = _signature(descriptor)
                    os.close(descriptor)
                    raise FolderInUseError(
                        errno.EWOULDBLOCK,
                        f"`checkpoints` must be in a folder of their own: another training run{owner} writes to it. "
                        f"Received: {self._path.parent}",
                    ) from None
                _mark(descriptor)
                time.sleep(_PAUSE)
            except OSError:
                os.close(descriptor)
                return None
            os.close(descriptor)


_OPEN = set()


def _close_in_child():
    # A child that was forked would hold the lock of its parent after that has died.
    while _OPEN:
        os.close(_OPEN.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _is_at(path, descriptor):
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _sign(descriptor):
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f", process {os.getpid()} on {socket.gethostname()},".encode())


def _signature(descriptor):
    with contextlib.suppress(OSError):
        return os.pread(descriptor, 300, 0).decode("utf-8", "replace").removesuffix(_WAITS)
    return ""


def _mark(descriptor):
    """Tells the owner of the lock that somebody waits for it."""
    if not _is_marked(descriptor):
        with contextlib.suppress(OSError):
            os.lseek(descriptor, 0, os.SEEK_END)
            os.write(descriptor, _WAITS.encode())


def _is_marked(descriptor):
    with contextlib.suppress(OSError):
        return os.pread(descriptor, 300, 0).endswith(_WAITS.encode())
    return False
