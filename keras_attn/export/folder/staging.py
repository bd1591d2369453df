"""A workspace inside the target folder, and atomic moves of files from there, even if the process is killed."""

import contextlib
import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

from keras_attn import folder_lock
from keras_attn.export.folder.plain_files import is_folder, is_inside, is_there, read_json

PREFIX = ".export-"
# Names in a workspace: the journal, present from before the first move until after the last; replaced files; files
# whose move was undone.
_JOURNAL, _REPLACED, _DROPPED = "moves.json", "replaced", "dropped"
locked = functools.partial(folder_lock.locked, name=".export.lock")


@contextlib.contextmanager
def workspace(path):
    """Yields a temporary folder in `path`, which is removed afterwards, together with `path` if that is empty.

    First cleans up after exports that were killed: completed moves are kept, others are undone.

    Args:
        path: `pathlib.Path` of a folder, created if needed.

    Raises:
        ValueError: If the folder is not writable.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, missing)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with locked(path):
                _clean_after_kills(path)
                folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=path))
                stack.enter_context(locked(folder))
                stack.callback(_clean, folder, path)
        except OSError as error:
            raise ValueError(
                f"`path` must be a folder that can be written to ({error.strerror}). Received: path={str(path)!r}"
            ) from error
        yield folder


def install(folder, names, path):
    """Moves `names` from `folder` to `path`: all of them, or none if it is interrupted before the last.

    A file replaces an older one atomically. A folder takes two renames.

    Args:
        folder: The workspace.
        names: Files and folders, relative to `folder`. Names that are missing in `folder` are removed from `path`.
        path: The target folder.
    """
    names = [name for name in dict.fromkeys(names) if _exists(folder / name) or _exists(path / name)]
    journal = {"names": names, "replaced": [name for name in names if _exists(path / name)]}
    (folder / _JOURNAL).write_text(json.dumps(journal), encoding="utf-8")
    try:
        for name in names:
            new, target, old = folder / name, path / name, folder / _REPLACED / name
            for parent in (target.parent, old.parent):
                parent.mkdir(parents=True, exist_ok=True)
            if name in journal["replaced"]:
                _set_aside(target, old, by=new)
            if _exists(new):
                os.replace(new, target)
    except BaseException:
        _undo(folder, path)
        raise
    (folder / _JOURNAL).unlink()


def _clean_after_kills(path):
    for folder in filter(is_folder, path.glob(f"{PREFIX}*")):
        with locked(folder, wait=False) as is_abandoned:
            if is_abandoned:
                _clean(folder, path)


def _clean(folder, path):
    _undo(folder, path)
    shutil.rmtree(folder, ignore_errors=True)


def _undo(folder, path):
    """Undoes unfinished moves into `path`. Can be repeated if it is interrupted itself."""
    names, replaced = _unfinished(folder)
    for index, name in reversed([*enumerate(names)]):
        target, old = path / name, folder / _REPLACED / name
        was_set_aside = is_there(folder, f"{_REPLACED}/{name}")
        is_new = was_set_aside if name in replaced else not is_there(folder, name)
        if is_new and _exists(target) and (not was_set_aside or is_folder(target) or is_folder(old)):
            os.replace(target, folder / f"{_DROPPED}-{index}")
        if was_set_aside:
            os.replace(old, target)
        _remove_empty(parent for parent in target.parents if path in parent.parents)
    (folder / _JOURNAL).unlink(missing_ok=True)


def _unfinished(folder):
    """The names in the journal, and those that existed before.

    A journal that cannot be read was still being written, so nothing was moved yet.
    """
    try:
        journal = read_json(folder, _JOURNAL)
        names, replaced = journal["names"], {*journal["replaced"]}
        if all(map(is_inside, names)):
            return names, replaced
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return [], set()


def _set_aside(target, old, by):
    """Keeps `target` as `old`. Unless a folder is involved, `target` also stays until `by` replaces it."""
    if by.is_file() and not is_folder(target):
        with contextlib.suppress(OSError):  # a file system without hard links
            os.link(target, old, follow_symlinks=False)
            return
    os.replace(target, old)


def _exists(path):
    return os.path.lexists(path)


def _remove_empty(folders):
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
