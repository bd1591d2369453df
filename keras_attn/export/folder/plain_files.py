"""Access to an untrusted folder: opens only regular files inside it."""

import json
import os
import posixpath
import stat
from pathlib import PurePosixPath

LARGEST_JSON = 2**26


def is_inside(name):
    """Whether `name` is a normalised relative path inside a folder, such as `a/b`."""
    if not isinstance(name, str) or name != posixpath.normpath(name) or {*name} & {"\\", "\0"}:
        return False
    return not posixpath.isabs(name) and name.partition("/")[0] not in (".", "..")


def is_there(folder, name):
    """Whether `name` exists in a folder, without a symbolic link in its parents."""
    return all(is_folder(folder / parent) for parent in _above(name)) and os.path.lexists(folder / name)


def is_folder(path):
    """Whether `path` is a folder and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def files_of(folder, name):
    """The file `name`, or all files in the folder `name`; none if it does not exist.

    Args:
        folder: `pathlib.Path`.
        name: A file or folder in it, as a relative path.

    Returns:
        A sorted list of names relative to `folder`, with slashes.

    Raises:
        ValueError: If one of them is a link or not a regular file, such as a pipe.
    """
    if not all(stat.S_ISDIR(_mode(folder, parent)) for parent in _above(name)):
        return []
    found, pending = [], [name]
    while pending:
        name = pending.pop()
        mode = _mode(folder, name)
        if stat.S_ISDIR(mode):
            pending += [f"{name}/{child}" for child in os.listdir(folder / name)]
        elif mode:
            found.append(name)
    return sorted(found)


def read_json(folder, name):
    """Reads a JSON file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a link, not a regular file, not JSON, or larger than `LARGEST_JSON` bytes.
    """
    if files_of(folder, name) == [name] and (folder / name).stat().st_size > LARGEST_JSON:
        raise ValueError(f"{name} is larger than {LARGEST_JSON} bytes")
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error


def _above(name):
    """The parents of a relative path, outermost first."""
    return list(map(str, reversed(PurePosixPath(name).parents[:-1])))


def _mode(folder, name):
    """The file mode; 0 if the file does not exist."""
    try:
        mode = os.lstat(folder / name).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "a link, which `cp -rL` replaces with the file" if stat.S_ISLNK(mode) else "not a file"
        raise ValueError(f"`path` must hold regular files only. Received: {name!r} in {str(folder)!r}, {kind}")
    return mode
