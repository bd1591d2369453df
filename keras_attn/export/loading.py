"""Models from files."""

import os
import re
import zipfile

from keras_attn.export.report import reason

# Vocabularies are a few megabytes; an archive of kilobytes may claim any size.
LARGEST_CONFIG = 2**28


def load_model(path):
    """The model of a `.keras` file.

    Raises:
        ValueError: it cannot be read.
    """
    if not os.path.isfile(path) or not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not there, or is not a .keras file")
    with zipfile.ZipFile(path) as archive:
        if any(file.file_size > LARGEST_CONFIG for file in archive.infolist() if file.filename.endswith(".json")):
            raise ValueError(f"{path} is not a readable Keras model: its config is larger than {LARGEST_CONFIG} bytes")
    import keras

    # Registers the classes that the file may name.
    import keras_attn.generation
    import keras_attn.models
    import keras_attn.text
    import keras_attn.training  # noqa: F401

    try:
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
