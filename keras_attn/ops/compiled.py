"""Compiles Python functions of tensors to graphs, if the backend has graphs."""

import keras


def compiled(function, *specs, jit_compile=False):
    """`function` as a graph, traced once for all inputs that match `specs`.

    Without `specs` it takes nests of tensors, with as few traces as possible.

    Args:
        function: Takes and returns tensors.
        *specs: One `keras.KerasTensor` per positional argument, with None for a free dimension.
        jit_compile: Whether XLA compiles the graph, once per set of shapes.

    Returns:
        On TensorFlow a `tf.function`; on other backends `function` itself.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    if not specs:
        return tf.function(function, autograph=False, reduce_retracing=True)
    signature = [tf.TensorSpec(spec.shape, spec.dtype) for spec in specs]
    return tf.function(function, input_signature=signature, autograph=False, jit_compile=jit_compile or None)
