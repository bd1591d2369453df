"""A lock on a folder, which ends with its process."""

import contextlib
import errno
import os
import socket
import time
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

_NAME, _PAUSE, _WAITS = ".lock", 0.02, " somebody waits"


class FolderInUseError(BlockingIOError, ValueError):
    """Raised if another process writes to a folder. The message names it."""


class FolderLock:
    """A lock for exclusive writing to a folder, between objects, processes and machines.

    The operating system keeps the lock as long as the file `.lock` is open, so it ends with a killed process. On
    network file systems without locks, the lock has no effect.

    Args:
        folder: The folder to lock. It is created if it does not exist.
    """

    def __init__(self, folder):
        self._path = Path(folder) / _NAME
        self._depth, self._file = 0, None

    @contextlib.contextmanager
    def held(self, tries=1):
        """A scope in which the lock is held. It is reentrant.

        Args:
            tries: Number of attempts, 0.02 seconds apart.

        Yields:
            Whether the lock is held. False if locks are not supported.

        Raises:
            FolderInUseError: If the lock is held elsewhere.
        """
        if not self._depth:
            self._file = self._acquired(tries)
        self._depth += 1
        try:
            yield self._file is not None
        finally:
            self._depth -= 1
            if not self._depth and self._file is not None:
                file, self._file = self._file, None
                # A waiting process checks whether the file that it opened still exists.
                has_waiters = not file.closed and _is_marked(file)
                _release(file, self._path)
                if has_waiters:
                    # Retaking the lock immediately would starve the others.
                    time.sleep(2 * _PAUSE)

    def _acquired(self, tries):
        """The open locked file, or None if locks are not supported."""
        if fcntl is None:
            return None
        # Count attempts instead of time, because a clock may jump.
        while True:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._path.is_symlink():
                    # The target of the link would be overwritten.
                    self._path.unlink()
                file, problem = _open_locked(self._path, wait=False)
            except OSError:
                return None
            if problem is None:
                _sign(file)
                return file
            tries -= 1
            with file:
                if not isinstance(problem, BlockingIOError):
                    return None
                if tries <= 0:
                    owner = _signature(file)
                    raise FolderInUseError(
                        errno.EWOULDBLOCK,
                        f"`checkpoints` must be in a folder that no other run uses: another training run{owner} writes "
                        f"to it. Received: {self._path.parent}",
                    )
                _mark(file)
                time.sleep(_PAUSE)


@contextlib.contextmanager
def locked(folder, name, wait=True):
    """A scope that locks a folder. The lock is released when the process ends for whatever reason.

    Args:
        folder: `pathlib.Path` of an existing folder.
        name: Name of the lock file in the folder.
        wait: Whether to wait until the lock is free.

    Yields:
        Whether the lock is held. Always False if the system or the disk does not support locks.

    Raises:
        OSError: If the folder is not writable.
    """
    if fcntl is None:
        yield False
        return
    path = folder / name
    file, problem = _open_locked(path, wait)
    with file:
        try:
            yield problem is None
        finally:
            if problem is None:
                _release(file, path)


# Locked files. File objects, unlike descriptors, are closed when an interrupt leaves them unreferenced.
_OPEN = weakref.WeakSet()


def _close_in_child():
    # A forked child would keep the lock of its parent after the parent has died.
    for file in list(_OPEN):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _open_locked(path, wait):
    """Opens and locks the file at `path`. Returns `(file, problem)`, an OSError if it could not be locked, or None."""
    while True:
        file = open(path, "a+b", buffering=0, opener=_open_no_link)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as problem:
            return file, problem
        if _is_at(path, file):
            _OPEN.add(file)
            return file, None
        # The previous holder has removed it.
        file.close()


def _open_no_link(path, flags):
    # Opening a pipe would block until something reads it.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _release(file, path):
    """Removes a locked file and closes it. In a forked child it is already closed, and belongs to the parent."""
    with contextlib.closing(file):
        if not file.closed:
            with contextlib.suppress(OSError):
                path.unlink()


def _is_at(path, file):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except OSError:
        return False


def _sign(file):
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(f", process {os.getpid()} on {socket.gethostname()},".encode())


def _signature(file):
    with contextlib.suppress(OSError):
        return os.pread(file.fileno(), 300, 0).decode("utf-8", "replace").removesuffix(_WAITS)
    return ""


def _mark(file):
    """Tells the owner of the lock that another process waits for it."""
    if not _is_marked(file):
        with contextlib.suppress(OSError):
            file.write(_WAITS.encode())


def _is_marked(file):
    with contextlib.suppress(OSError):
        return os.pread(file.fileno(), 300, 0).endswith(_WAITS.encode())
    return False
