"""Models from files."""

import contextlib
import math
import os
import re
import threading
import zipfile

from keras_attn import compat
from keras_attn.export.report import reason

# Vocabularies are a few megabytes; an archive of kilobytes may claim any size.
LARGEST_CONFIG = 2**28
# Numbers of weights for a byte of the file, where each is 4 bits and copied once or twice while the model is made; and
# those of models that are so small that other things make most of the file.
WEIGHTS_A_BYTE, FEW_WEIGHTS = 8, 2**20


def load_model(path):
    """The model of a `.keras` file.

    Its config is not trusted: it cannot ask for more memory than the weights in the file need.

    Raises:
        ValueError: it cannot be read.
    """
    if not os.path.isfile(path) or not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not there, or is not a .keras file")
    import keras

    # Registers the classes that the file may name.
    import keras_attn.generation
    import keras_attn.models
    import keras_attn.text
    import keras_attn.training  # noqa: F401

    try:
        with _at_most(_weights_of(path)):
            return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{path} is not a readable Keras model: {_cause(error)}") from error


def _cause(error):
    """What is wrong, in one line: the class that is not known, rather than that of the model which holds it."""
    if found := re.search(r"Could not locate (class|function) '([^']+)'", str(error)):
        kind, name = found.groups()
        return (
            f"it needs the {kind} {name!r}, whose code is not imported here; load the model in Python where it is, and "
            "call `keras_attn.export.export`"
        )
    return reason(error)


def _weights_of(path):
    """How many numbers the file may hold."""
    with zipfile.ZipFile(path) as archive:
        sizes = {file.filename: file.file_size for file in archive.infolist()}
    if any(size > LARGEST_CONFIG for name, size in sizes.items() if name.endswith(".json")):
        raise ValueError(f"its config is larger than {LARGEST_CONFIG} bytes")
    return FEW_WEIGHTS + WEIGHTS_A_BYTE * sum(sizes.values())


@contextlib.contextmanager
def _at_most(limit):
    """Within the scope, the layers that this thread makes have at most `limit` numbers of weights together."""
    thread, count = threading.get_ident(), 0

    def check(layer, shape):
        nonlocal count
        if threading.get_ident() == thread:
            count += math.prod(shape or ())
            if count > limit:
                raise ValueError(
                    f"its config asks for weights that its file does not hold, such as {tuple(shape)} in {layer.name}"
                )

    with compat.before_add_weight(check):
        yield
