"""The Keras model's own answers."""

import numpy as np


def outputs(call, inputs):
    """Calls a function of tensors on arrays, on the CPU.

    Args:
        call: Takes tensors by name, returns a dict of tensors.
        inputs: Dict of arrays.

    Returns:
        Dict of NumPy arrays.
    """
    import keras

    # An accelerator may multiply float32 in a shorter format.
    with keras.device("cpu:0"):
        tensors = {name: keras.ops.convert_to_tensor(value) for name, value in inputs.items()}
        return {name: _decoded(keras.ops.convert_to_numpy(value)) for name, value in call(**tensors).items()}


def runs(call, inputs):
    """Whether a function of tensors, such as a model, takes arrays of these shapes and values."""
    try:
        outputs(call, inputs)
    # Whatever its layers raise where sizes do not go together.
    except Exception:
        return False
    return True


def _decoded(value):
    """Strings of a tensor, which are bytes, as text."""
    if value.dtype.kind not in "OS":
        return value
    return np.char.decode(value.astype(np.bytes_), "utf-8", "replace")
