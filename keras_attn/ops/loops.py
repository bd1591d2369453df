"""Whether a kernel may loop over blocks: where it may not, it must do without, to the same result."""

import contextlib
import contextvars

import keras

_banned = contextvars.ContextVar("keras_attn_loops_banned", default=False)


@contextlib.contextmanager
def without_loops():
    """Within the scope, kernels make graphs without loops, for formats that have none that suits."""
    token = _banned.set(True)
    try:
        yield
    finally:
        _banned.reset(token)


def banned():
    """Whether the scope is on."""
    return _banned.get()


def available():
    """Whether a loop whose slices differ in size can run here: on TensorFlow, outside of XLA and of `without_loops`."""
    if banned() or keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return tf.executing_eagerly() or not GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
