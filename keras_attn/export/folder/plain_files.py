"""Files of a folder that may come from anybody: what is opened is a regular file, and inside of it."""

import json
import os
import posixpath
import stat
from pathlib import PurePosixPath

LARGEST_JSON = 2**26


def is_inside(name):
    """Whether `name` is the path of something inside of a folder, relative to it, as `a/b`."""
    if not isinstance(name, str) or name != posixpath.normpath(name) or {*name} & {"\\", "\0"}:
        return False
    return not posixpath.isabs(name) and name.partition("/")[0] not in (".", "..")


def is_there(folder, name):
    """Whether a folder has something called `name`, without a link on the way to it."""
    return all(is_folder(folder / parent) for parent in _above(name)) and os.path.lexists(folder / name)


def is_folder(path):
    """Whether `path` is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def files_of(folder, name):
    """The files that `name` is or holds, none if it is not there.

    Args:
        folder: `pathlib.Path`.
        name: a file or folder in it, relative.

    Returns:
        A sorted list of names relative to `folder`, with slashes.

    Raises:
        ValueError: one of them is a link, or no file, such as a pipe that would never end.
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
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a link, no file, no JSON, or larger than `LARGEST_JSON` bytes.
    """
    if files_of(folder, name) == [name] and (folder / name).stat().st_size > LARGEST_JSON:
        raise ValueError(f"{name} is larger than {LARGEST_JSON} bytes")
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error


def _above(name):
    """The folders that lead to something inside of a folder, the outer ones first."""
    return list(map(str, reversed(PurePosixPath(name).parents[:-1])))


def _mode(folder, name):
    """What something is; 0 if it is not there."""
    try:
        mode = os.lstat(folder / name).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "a link, which `cp -rL` replaces with the file" if stat.S_ISLNK(mode) else "no file"
        raise ValueError(f"`path` must hold regular files only. Received: {name!r} in {str(folder)!r}, {kind}")
    return mode
