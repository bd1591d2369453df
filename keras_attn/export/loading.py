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

    # Registers the classes that the file may name.
    import keras_attn.generation
    import keras_attn.models
    import keras_attn.text
    import keras_attn.training  # noqa: F401

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{path} is not a readable Keras model: {reason(error)}") from error
