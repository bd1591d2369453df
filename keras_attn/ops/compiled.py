"""Python functions of tensors as graphs, where the backend has graphs."""

import keras


def compiled(function, *specs, jit_compile=False):
    """`function` as one graph, traced once for inputs that fit `specs`, whatever their free dimensions are.

    Without `specs` it takes nests of tensors, and is traced anew for few of their shapes.

    Args:
        function: takes and returns tensors.
        *specs: `keras.KerasTensor` a positional argument, None for a free dimension.
        jit_compile: whether XLA compiles the graph, once for each set of shapes.

    Returns:
        On TensorFlow a `tf.function`; elsewhere `function` as it is.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    if not specs:
        return tf.function(function, autograph=False, reduce_retracing=True)
    signature = [tf.TensorSpec(spec.shape, spec.dtype) for spec in specs]
    return tf.function(function, input_signature=signature, autograph=False, jit_compile=jit_compile or None)
