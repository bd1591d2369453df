"""Which devices to train on."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def get_strategy() -> tf.distribute.Strategy:
    """The `tf.distribute` strategy for where this runs.

    Call it before anything else of TensorFlow: a group of workers is formed once, at the start.

    Returns:
        `tf.distribute.MultiWorkerMirroredStrategy` where the environment variable `TF_CONFIG` names several workers,
        `tf.distribute.MirroredStrategy` with two GPUs or more, `tf.distribute.OneDeviceStrategy` otherwise.

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
