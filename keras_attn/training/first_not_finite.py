"""Finds the first layer whose output is not finite."""

from keras_attn.layers.base.layer_outputs import layer_outputs


def first_not_finite(model, call):
    """Describes the first weight or layer output of a model that is not finite.

    Args:
        model: The `keras.Model`.
        call: A function without arguments that calls the model.

    Returns:
        A sentence that names the weight or, in order of completion, the layer.
    """
    for variable in model.weights:
        if not is_finite(variable.value):
            return f"the weights {variable.path!r} are not finite"
    with layer_outputs(model) as recorded:
        call()
    for layer, _, tensor in recorded:
        if not is_finite(tensor):
            return f"the output of layer {layer.path!r} is the first that is not finite"
    return "all layer outputs are finite without dropout; check the labels, the sample weights and the loss"


def is_finite(x):
    """Whether an eager tensor or variable is free of infinities and NaN. True for symbolic tensors."""
    import tensorflow as tf

    if not tf.is_tensor(x) or tf.is_symbolic_tensor(x) or not x.dtype.is_floating:
        return True
    return bool(tf.reduce_all(tf.math.is_finite(tf.cast(x, "float32"))))
