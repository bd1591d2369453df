"""The Keras model's own answers."""


def outputs(call, inputs):
    """Calls a function of tensors on arrays, on the CPU.

    Args:
        call: takes tensors by name, returns a dict of tensors.
        inputs: dict of arrays.

    Returns:
        dict of NumPy arrays.
    """
    import keras

    # An accelerator may multiply float32 in a shorter format.
    with keras.device("cpu:0"):
        tensors = {name: keras.ops.convert_to_tensor(value) for name, value in inputs.items()}
        return {name: keras.ops.convert_to_numpy(value) for name, value in call(**tensors).items()}
