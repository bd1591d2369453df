import keras
import numpy as np
import pytest
import tensorflow as tf
from training_processes import run_script

from keras_attn.training import get_strategy


@pytest.mark.skipif(len(tf.config.list_physical_devices("GPU")) > 1, reason="needs a machine of one device")
def test_a_machine_of_one_device():
    strategy = get_strategy()
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert strategy.num_replicas_in_sync == 1
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    assert strategy.extended.worker_devices[0].upper().endswith(f"{kind}:0")


def test_machines_with_no_device_and_with_several():
    script = """
import tensorflow as tf
import keras_attn
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategies = [keras_attn.training.get_strategy()]
# Two halves of a CPU stand in for two GPUs.
cpus = tf.config.list_logical_devices("CPU")
tf.config.list_logical_devices = lambda kind: cpus if kind == "GPU" else []
strategies.append(keras_attn.training.get_strategy())
for strategy in strategies:
    print(type(strategy).__name__, *(device[-5:].upper() for device in strategy.extended.worker_devices))
"""
    result = run_script(script)
    assert result.stdout.split("\n")[:2] == ["OneDeviceStrategy CPU:0", "MirroredStrategy CPU:0 CPU:1"], result.stderr


def test_fit_under_it():
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(3).standard_normal((64, 5)).astype("float32")
    y = x @ np.arange(5, dtype="float32")[:, None]
    with get_strategy().scope():
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    losses = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 1e-2 * losses[0]
