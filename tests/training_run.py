"""A short training as one process of several, or on several devices: a program of tests/training/test_trainer*.py.

python training_run.py '{"folder": ..., ...}'
"""

import json
import os
import signal
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np

import keras_attn
from keras_attn.training import Checkpoints, FusedAdam, MaskedCrossEntropy, Trainer

ROWS, VOCABULARY = 8, 31


class Pairs:
    """Batches of rows of uneven numbers of tokens, the `i`-th from `i` alone."""

    fingerprint = "pairs"

    def batches(self, start=0, shard=0, num_shards=1):
        while True:
            rng = np.random.default_rng([5, start])
            start += 1
            targets = rng.integers(1, VOCABULARY, (ROWS, 6), "int32")
            targets[np.arange(6) >= rng.integers(1, 7, (ROWS, 1))] = 0
            ids = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=2)
            inputs = {"token_ids": ids, "positions": np.broadcast_to(np.arange(6, dtype="int32"), ids.shape)}
            mine = slice(shard * ROWS // num_shards, (shard + 1) * ROWS // num_shards)
            yield {name: x[mine] for name, x in inputs.items()}, targets[mine]


class Fault(keras.callbacks.Callback):
    """Sends this process a signal behind a step."""

    def __init__(self, step, number):
        super().__init__()
        self.step, self.number = step, number

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.step:
            os.kill(os.getpid(), self.number)


def trainer(strategy=None, dropout=0.0, folder=None, every=2, **settings):
    """A trainer of a small language model, with clipping that bites."""
    import contextlib

    keras.utils.set_random_seed(1)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = keras_attn.LanguageModel(
            VOCABULARY, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, dropout=dropout
        )
        # The gradient of a key's bias is 0 but for rounding, which Adam would divide by its like.
        optimizer = FusedAdam(1e-3, epsilon=1e-6, global_clipnorm=0.3)
    checkpoints = Checkpoints(folder, every=every) if folder else None
    return Trainer(model, optimizer, MaskedCrossEntropy(), strategy=strategy, checkpoints=checkpoints, **settings)


def main(settings):
    import tensorflow as tf

    devices, kind = settings.pop("devices", 1), None
    if "TF_CONFIG" in os.environ:
        kind = keras_attn.training.get_strategy()
    elif devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
        kind = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(devices)])
    steps, out, fault = settings.pop("steps"), settings.pop("out"), settings.pop("fault", None)
    task = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    callbacks = [keras.callbacks.CSVLogger(log, append=True)] if (log := settings.pop("log", None)) else []
    if fault and fault["task"] == task:
        callbacks.append(Fault(fault["step"], signal.Signals[fault["signal"]]))
    one = trainer(kind, **settings)
    one.fit(Pairs(), steps, callbacks)
    np.savez(f"{out}.{task}.npz", *[keras.ops.convert_to_numpy(v) for v in one.model.weights])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
