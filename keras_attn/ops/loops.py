"""Whether kernels may loop over blocks; without loops they must compute the same result."""

import keras

from keras_attn import compat
from keras_attn.ops.target import current


def available():
    """Whether a loop with slices of different sizes can run: the target supports it, and XLA is not compiling."""
    if not current().has_unequal_loops or keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.executing_eagerly() or not compat.in_xla_context()
