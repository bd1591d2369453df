"""Chooses the devices to train on."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def get_strategy() -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy for the available devices.

    Call it before any other TensorFlow operation: a group of workers can only be formed at the start of a program.

    Returns:
        A `tf.distribute.MultiWorkerMirroredStrategy` if the environment variable `TF_CONFIG` lists several workers, a
        `tf.distribute.MirroredStrategy` if there are two or more GPUs, and a `tf.distribute.OneDeviceStrategy`
        otherwise.

    Example:

    >>> from keras_attn.training import get_strategy
    >>> strategy = get_strategy()
    >>> with strategy.scope():
    ...     pass  # build and compile the model here
    """
    import tensorflow as tf

    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    if sum(len(cluster.get(kind, ())) for kind in ("chief", "worker")) > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
