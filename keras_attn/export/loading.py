"""Loads models from untrusted files."""

import contextlib
import math
import os
import re
import zipfile

from keras_attn import compat
from keras_attn.export.report import reason

# Vocabularies take a few megabytes; a tiny archive may expand to any size.
LARGEST_CONFIG = 2**28
# Maximum number of weights per byte of the file: weights of 4 bits, copied once or twice while the model is created.
# And an allowance for small models, whose files hold mostly other data.
WEIGHTS_PER_BYTE, FEW_WEIGHTS = 8, 2**20


def load_model(path):
    """Loads the model of a `.keras` file.

    The config is not trusted: it cannot allocate more memory than the weights in the file need.

    Raises:
        ValueError: If the file cannot be read.
    """
    if not os.path.isfile(path) or not zipfile.is_zipfile(path):
        raise ValueError(f"{path} does not exist or is not a .keras file")
    import keras

    # Registers the classes that the file may name.
    import keras_attn.generation
    import keras_attn.models
    import keras_attn.text
    import keras_attn.training  # noqa: F401

    try:
        with _weight_limit(_max_weights(path)):
            return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{path} is not a readable Keras model: {_cause(error)}") from error


def _cause(error):
    """The reason in one line; names an unknown class itself rather than the model that contains it."""
    if found := re.search(r"Could not locate (class|function) '([^']+)'", str(error)):
        kind, name = found.groups()
        return (
            f"it needs the {kind} {name!r}, which is not imported here; load the model in Python after importing it, "
            "and call `keras_attn.export.export`"
        )
    return reason(error)


def _max_weights(path):
    """The maximum number of weights that the file may describe."""
    with zipfile.ZipFile(path) as archive:
        sizes = {file.filename: file.file_size for file in archive.infolist()}
    if any(size > LARGEST_CONFIG for name, size in sizes.items() if name.endswith(".json")):
        raise ValueError(f"its config is larger than {LARGEST_CONFIG} bytes")
    return FEW_WEIGHTS + WEIGHTS_PER_BYTE * sum(sizes.values())


@contextlib.contextmanager
def _weight_limit(limit):
    """Scope in which the layers that this thread creates have at most `limit` weights in total."""
    count = 0

    def check(layer, shape):
        nonlocal count
        count += math.prod(shape or ())
        if count > limit:
            raise ValueError(
                f"its config describes weights that are not in the file, such as {tuple(shape)} in {layer.name}"
            )

    with compat.before_add_weight(check):
        yield
