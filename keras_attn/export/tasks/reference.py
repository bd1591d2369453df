"""Reference outputs of the Keras model."""

import numpy as np


def outputs(call, inputs):
    """Calls a function of tensors with arrays, on the CPU.

    Args:
        call: Takes tensors by name, returns a dict of tensors.
        inputs: Dict of arrays.

    Returns:
        Dict of NumPy arrays.
    """
    import keras

    # Accelerators may multiply float32 in lower precision.
    with keras.device("cpu:0"):
        tensors = {name: keras.ops.convert_to_tensor(value) for name, value in inputs.items()}
        return {name: _decoded(keras.ops.convert_to_numpy(value)) for name, value in call(**tensors).items()}


def runs(call, inputs):
    """Whether a function of tensors, such as a model, runs with these arrays."""
    try:
        outputs(call, inputs)
    # Layers may raise anything for sizes that do not match.
    except Exception:
        return False
    return True


def _decoded(value):
    """Decodes bytes, the strings of a tensor, to text."""
    if value.dtype.kind not in "OS":
        return value
    return np.char.decode(value.astype(np.bytes_), "utf-8", "replace")
