"""Files that are never seen incomplete."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacement(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file to write in the scope, which takes the place of `path` at the end, or disappears if there was an error.

    It has the same name, in a hidden folder beside `path`, as some libraries look at the extension.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        os.replace(unfinished, path)
