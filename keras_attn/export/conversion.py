"""Errors of converters and of the disk, in the package's own words."""

import contextlib
import errno
import os

from keras_attn.export.report import ExportError, reason

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def tried(emitter, tasks, step, *arguments):
    """`step(*arguments)`, a conversion of tasks by an emitter.

    Raises:
        ExportError: the conversion failed; the message says in one line why.
        OSError: there was no space.
    """
    try:
        return step(*arguments)
    except (ExportError, ImportError):
        raise
    except Exception as error:
        if getattr(error, "errno", None) in FULL:
            raise
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        names = ", ".join(task.name for task in tasks)
        raise ExportError(f"{emitter.name}: {names} could not be converted: {reason(error)}") from error


@contextlib.contextmanager
def space_for(path):
    """Within the scope a full disk is an `ExportError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ExportError(f"{path} could not be written: {os.strerror(error.errno)}") from error
