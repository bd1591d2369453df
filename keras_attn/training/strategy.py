"""Which devices to train on."""


def get_strategy():
    """The `tf.distribute` strategy for this machine: all its GPUs if it has several, else the one device it has.

    Returns:
        `tf.distribute.MirroredStrategy` with two GPUs or more, `tf.distribute.OneDeviceStrategy` otherwise.

    Example:

    >>> from keras_attn.training import get_strategy
    >>> strategy = get_strategy()
    >>> with strategy.scope():
    ...     pass  # build and compile the model here
    """
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
