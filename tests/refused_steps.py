"""Trainings with a batch in them that must be refused; `main` is one on several replicas."""

import contextlib
import functools
import json
import re

import keras
import numpy as np
import tensorflow as tf

from keras_attn.training import FusedAdam, Trainer

BAD_STEP, STEPS, ROWS = 3, 5, 8
# What the refusal says.
KINDS = {
    "loss": "the loss of step 3 is not finite",
    "gradient": "step 3 is refused: its loss is finite, but the gradient of '.*' is not",
    "huge": "step 3 is refused: its loss is finite, but the gradient of '.*' is not",
    "state": "step 3 is refused: its loss is finite, but the new value of '.*moving_variance' is not",
}
OPTIMIZERS = {
    "fused": lambda: FusedAdam(1e-2, global_clipnorm=1.0),
    "sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
    "averages": lambda: keras.optimizers.AdamW(1e-2, use_ema=True, ema_momentum=0.5),
}


class Trap(keras.layers.Layer):
    """The identity, but for columns that are a sign: their value is finite, and their gradient is NaN, or huge."""

    def call(self, y, sign):
        # The root is of 1 where nobody takes it: XLA passes 0 times its gradient on.
        y = keras.ops.where(sign == 7, keras.ops.sqrt(keras.ops.where(sign == 7, 0 * y, 1)), y)
        return keras.ops.where(sign == 8, 1e25 * (y - keras.ops.stop_gradient(y)), y)


def trainer(optimizer="fused", strategy=None, dtype=None, **settings):
    keras.utils.set_random_seed(1)
    with strategy.scope() if strategy else contextlib.nullcontext(), _policy(dtype):
        x, sign = keras.Input((3,), name="x"), keras.Input((1,), name="sign")
        y = keras.layers.Dropout(0.2)(keras.layers.BatchNormalization()(x))
        y = keras.layers.Dense(4, activation="tanh")(Trap()(keras.layers.Dense(4)(y), sign))
        model = keras.Model({"x": x, "sign": sign}, keras.layers.Dense(1, dtype="float32")(y))
        built = OPTIMIZERS[optimizer]()
    return Trainer(model, built, "mse", strategy=strategy, **settings)


@contextlib.contextmanager
def _policy(dtype):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or before)
    yield
    keras.config.set_dtype_policy(before)


def data(kind=None, row=0, batches_a_step=1):
    """Batches, of which those of `BAD_STEP` hold a bad row."""
    count = STEPS * batches_a_step * ROWS
    rng = np.random.default_rng(0)
    x, sign = rng.normal(size=(count, 3)).astype("float32"), np.zeros((count, 1), "float32")
    y = x.sum(1, keepdims=True)
    bad = BAD_STEP * batches_a_step * ROWS + row
    if kind == "loss":
        x[bad] = np.nan
    elif kind == "state":
        x[bad] = 1e20
    elif kind:
        sign[bad] = {"gradient": 7, "huge": 8}[kind]
    return tf.data.Dataset.from_tensor_slices(({"x": x, "sign": sign}, y)).batch(ROWS)


def variables(one):
    """All that a step may change, by name."""
    found = [*one.model.variables, *one.optimizer.variables]
    return [(v.path, np.array(keras.ops.convert_to_numpy(v.value))) for v in found]


def differences(one, other):
    return [a for (a, x), (_, y) in zip(one, other, strict=True) if not np.array_equal(x, y)]


class Watch(keras.callbacks.Callback):
    """Keeps the variables after each step: at its end, `fit` puts averages in the place of weights."""

    def __init__(self, one):
        super().__init__()
        self.one, self.steps = one, []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(variables(self.one))


@functools.cache
def undisturbed(**settings):
    """`(variables after each step, variables after fit)` of a run without a bad batch."""
    one = trainer(**settings)
    watch = Watch(one)
    one.fit(data(batches_a_step=settings.get("accumulation_steps", 1)), STEPS, [watch])
    return watch.steps, variables(one)


def traces(kind, rows=(0,), **settings):
    """What is wrong about a step that is refused, against a run without it: words, none where all is well."""
    found, accumulated = [], settings.get("accumulation_steps", 1)
    steps, final = undisturbed(**settings)
    for row in rows:
        one = trainer(**settings)
        try:
            one.fit(data(kind, row, accumulated), BAD_STEP + 1)
            found.append(f"{kind}, row {row}: not refused")
        except FloatingPointError as error:
            if not re.search(KINDS[kind], str(error)):
                found.append(f"{kind}, row {row}: {error}")
        changed = differences(variables(one), steps[BAD_STEP - 1])
        found += [f"{kind}, row {row}: {name} has changed" for name in changed]
        one.fit(data(batches_a_step=accumulated), STEPS)
        found += [f"{kind}, row {row}: {name} differs later" for name in differences(variables(one), final)]
    return found


def main(devices):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    strategy = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(devices)])
    # The bad row is one of the second replica.
    cases = [("gradient", {}), ("state", {"accumulation_steps": 2})]
    print(json.dumps({kind: traces(kind, rows=(5,), strategy=strategy, **more) for kind, more in cases}))
