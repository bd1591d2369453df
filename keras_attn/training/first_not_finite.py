"""Which layer is the first to give what is no number."""

from keras_attn.layers.base.layer_outputs import layer_outputs


def first_not_finite(model, inputs):
    """The first of a model's weights, or of the layers in it by the order in which they end, that is not finite.

    Args:
        model: `keras.Model`.
        inputs: its inputs, as arrays.

    Returns:
        What it is, in words.
    """
    for variable in model.weights:
        if not is_finite(variable.value):
            return f"the weights {variable.path!r} are not finite"
    with layer_outputs(model) as recorded:
        model(inputs, training=False)
    for layer, _, tensor in recorded:
        if not is_finite(tensor):
            return f"the output of layer {layer.path!r} is the first that is not finite"
    return "all layers give finite outputs without dropout; labels, weights or the loss are at fault"


def is_finite(x):
    """Whether a tensor or a variable, which is not part of a graph, holds neither infinities nor what is no number."""
    import tensorflow as tf

    if not tf.is_tensor(x) or tf.is_symbolic_tensor(x) or not x.dtype.is_floating:
        return True
    return bool(tf.reduce_all(tf.math.is_finite(tf.cast(x, "float32"))))
