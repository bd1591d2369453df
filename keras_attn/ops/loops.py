"""Whether a kernel may loop over blocks: if it may not, it must do without, to the same result."""

import keras

from keras_attn import compat
from keras_attn.ops.target import current


def available():
    """Whether a loop whose slices differ in size can run here: the target has it, and XLA compiles nothing."""
    if not current().has_unequal_loops or keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.executing_eagerly() or not compat.in_xla_context()
