"""A workplace inside the target folder, so that moving a finished artefact into place is one rename."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path


@contextlib.contextmanager
def workplace(path):
    """Yields a temporary folder in `path`. It is gone afterwards, and so is `path` where nothing came into it.

    Args:
        path: `pathlib.Path` of a folder, made if need be.

    Raises:
        ValueError: nothing can be written there.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=path))
    except OSError as error:
        _remove_empty(missing)
        raise ValueError(
            f"`path` must be a folder that can be written to ({error.strerror}). Received: path={str(path)!r}"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(missing)


def install(folder, names, path):
    """Moves `names` from `folder` into `path`; what had such a name comes back if any move fails.

    Args:
        folder: the workplace.
        names: files and folders, relative to `folder`.
        path: where they go.
    """
    replaced = folder / "replaced"
    undo = []
    try:
        for name in names:
            for parent in ((path / name).parent, (replaced / name).parent):
                parent.mkdir(parents=True, exist_ok=True)
            if (path / name).exists():
                os.replace(path / name, replaced / name)
                undo.append((replaced / name, path / name))
            os.replace(folder / name, path / name)
            undo.append((path / name, folder / name))
    except OSError:
        for source, destination in reversed(undo):
            os.replace(source, destination)
        raise


def _remove_empty(folders):
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
