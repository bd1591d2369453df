"""Turns errors of converters and of the disk into `ExportError`s."""

import contextlib
import errno
import os

from keras_attn import compat
from keras_attn.export.report import ExportError, reason

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def convert_or_raise(writer, tasks, step, *arguments):
    """Returns `step(*arguments)`, a conversion step; its errors become `ExportError`s.

    Raises:
        ExportError: If the conversion fails; the message gives the reason or a workaround in one line.
        OSError: If the disk is full.
    """
    try:
        return step(*arguments)
    except ImportError:
        raise
    except Exception as error:
        advice = _advice(writer, tasks[0].model, str(error))
        if isinstance(error, ExportError) and advice is None:
            raise
        if getattr(error, "errno", None) in FULL:
            raise
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        names = ", ".join(task.name for task in tasks)
        raise ExportError(f"{writer.name}: {names} could not be converted: {advice or reason(error)}") from error


def _advice(writer, model, message):
    """A workaround for a failed conversion, or None."""
    from keras_attn.export.formats import signatures

    if writer.runtime != "saved_model" and signatures.tables(model):
        return (
            f"{writer.name} does not support Keras' lookup layers; use `format='saved_model'`, or export the part of "
            "the model after them"
        )
    layers = compat.layers_of(model)
    if any(getattr(layer, "quantization_mode", None) for layer in layers):
        return (
            f"{writer.name} does not support models after `quantize`; export the unquantised model with one of the "
            "format's `precision` values instead"
        )
    if writer.runtime == "tflite" and "TensorList" in message:
        return (
            "Keras' recurrent layers need a fixed batch size: pass `shapes={'batch': 1}`, or use "
            "`keras_attn.layers.Recurrence`, which supports any"
        )
    return None


@contextlib.contextmanager
def disk_errors(path):
    """Scope in which a full disk raises an `ExportError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ExportError(f"{path} could not be written: {os.strerror(error.errno)}") from error
