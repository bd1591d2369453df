"""Errors of converters and of the disk, in the package's own words."""

import contextlib
import errno
import os

from keras_attn import compat
from keras_attn.export.report import ExportError, reason

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def tried(emitter, tasks, step, *arguments):
    """`step(*arguments)`, a conversion of tasks by an emitter.

    Raises:
        ExportError: the conversion failed; the message says in one line why, or what to do instead.
        OSError: there was no space.
    """
    try:
        return step(*arguments)
    except ImportError:
        raise
    except Exception as error:
        advice = _advice(emitter, tasks[0].model, str(error))
        if isinstance(error, ExportError) and advice is None:
            raise
        if getattr(error, "errno", None) in FULL:
            raise
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        names = ", ".join(task.name for task in tasks)
        raise ExportError(f"{emitter.name}: {names} could not be converted: {advice or reason(error)}") from error


def _advice(emitter, model, message):
    """What to do about a conversion that failed with a message, or None."""
    from keras_attn.export.formats import signatures

    if emitter.runtime != "saved_model" and signatures.tables(model):
        return (
            f"{emitter.name} lacks the tables of Keras' lookup layers; `format='saved_model'` has them, or export the "
            "part of the model behind them"
        )
    layers = compat.layers_of(model)
    if any(getattr(layer, "quantization_mode", None) for layer in layers):
        return (
            f"{emitter.name} lacks the products of a model after `quantize`; export the model as it was before, with "
            "`precision=` one of those that the format has"
        )
    if emitter.runtime == "tflite" and "TensorList" in message:
        return (
            "Keras' recurrent layers need a batch of a known size there: give `shapes={'batch': 1}`, or use "
            "`keras_attn.layers.Recurrence`, which takes any"
        )
    return None


@contextlib.contextmanager
def space_for(path):
    """Within the scope a full disk is an `ExportError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ExportError(f"{path} could not be written: {os.strerror(error.errno)}") from error
