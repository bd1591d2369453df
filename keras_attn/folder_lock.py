"""A lock on a folder, which ends with the process that holds it."""

import contextlib
import errno
import os
import socket
import time
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

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
        self._depth, self._file = 0, None

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
            self._file = self._acquired(tries)
        self._depth += 1
        try:
            yield self._file is not None
        finally:
            self._depth -= 1
            if not self._depth and self._file is not None:
                file, self._file = self._file, None
                # Whoever waits for it looks whether the file that he has opened is still there.
                somebody_waits = not file.closed and _is_marked(file)
                _release(file, self._path)
                if somebody_waits:
                    # Who would take the lock again at once would keep others out for ever.
                    time.sleep(2 * _PAUSE)

    def _acquired(self, tries):
        """The open file that is locked, or None where files cannot be."""
        if fcntl is None:
            return None
        # Not until some time: a clock may jump.
        while True:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._path.is_symlink():
                    # Whatever it leads to would be overwritten.
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
                        f"`checkpoints` must be in a folder of their own: another training run{owner} writes to it. "
                        f"Received: {self._path.parent}",
                    )
                _mark(file)
                time.sleep(_PAUSE)


@contextlib.contextmanager
def locked(folder, name, wait=True):
    """Holds a lock on a folder, which is released when its process ends in any way.

    Args:
        folder: `pathlib.Path` of an existing folder.
        name: of the file in it that is locked.
        wait: whether to wait for another holder.

    Yields:
        Whether the lock is held. It never is where the system or the disk has no locks.

    Raises:
        OSError: nothing can be written to the folder.
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


# Files that are locked. One that is forgotten, wherever an interrupt came, closes itself, which a descriptor does not.
_OPEN = weakref.WeakSet()


def _close_in_child():
    # A child that was forked would hold the lock of its parent after that has died.
    for file in list(_OPEN):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _open_locked(path, wait):
    """`(file, problem)`: the open file at `path`, and the OSError for which it could not be locked, or None."""
    while True:
        file = open(path, "a+b", buffering=0, opener=_open_no_link)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as problem:
            return file, problem
        if _is_at(path, file):
            _OPEN.add(file)
            return file, None
        # The holder before has removed it.
        file.close()


def _open_no_link(path, flags):
    # To open a pipe would wait for somebody to read it.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _release(file, path):
    """Removes a locked file and closes it. In a child that was forked it is closed already, and is its parent's."""
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
    """Tells the owner of the lock that somebody waits for it."""
    if not _is_marked(file):
        with contextlib.suppress(OSError):
            file.write(_WAITS.encode())


def _is_marked(file):
    with contextlib.suppress(OSError):
        return os.pread(file.fileno(), 300, 0).endswith(_WAITS.encode())
    return False
