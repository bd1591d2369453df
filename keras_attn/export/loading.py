"""Models from files."""

import zipfile

from keras_attn.export.report import reason


def load_model(path):
    """The model of a `.keras` file.

    Raises:
        ValueError: it cannot be read.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not there, or is not a .keras file")
    import keras

    import keras_attn.models  # noqa: F401  (registers the classes that the file may name)

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{path} is not a readable Keras model: {reason(error)}") from error
