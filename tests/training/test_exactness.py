"""The weights after some steps, on one device and on several: the same global batches give the same."""

import pytest
from training_processes import largest_difference, run, run_group, run_script, weights
from training_run import Pairs, trainer

STEPS = 5


@pytest.fixture(scope="module")
def on_one_device():
    one = trainer(accumulation_steps=2)
    one.fit(Pairs(), STEPS)
    return one.model.get_weights()


@pytest.mark.parametrize(("devices", "jit"), [(2, False), (4, True)])
def test_mirrored(on_one_device, tmp_path, devices, jit):
    result = run(devices=devices, steps=STEPS, out=str(tmp_path / "w"), accumulation_steps=2, jit_compile=jit)
    assert result.returncode == 0, result.stderr
    assert largest_difference(on_one_device, weights(tmp_path / "w.0.npz")) <= 1e-6


def test_workers(on_one_device, tmp_path):
    assert run_group(steps=STEPS, out=str(tmp_path / "w"), accumulation_steps=2) == [0, 0]
    first, second = weights(tmp_path / "w.0.npz"), weights(tmp_path / "w.1.npz")
    assert largest_difference(first, second) == 0
    assert largest_difference(on_one_device, first) <= 1e-6


def test_fit_says_where_it_is_wrong():
    script = """
import warnings
import tensorflow as tf
from training_run import Pairs, trainer
from keras_attn.training import MaskedCrossEntropy
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
for strategy in (None, tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])):
    one = trainer(strategy, dropout=0.1)
    with strategy.scope() if strategy else tf.name_scope("one"):
        one.model.compile(one.optimizer, MaskedCrossEntropy(), jit_compile=False)
    signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), next(Pairs().batches()))
    data = tf.data.Dataset.from_generator(lambda: Pairs().batches(), output_signature=signature)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one.model.fit(data, steps_per_epoch=1, verbose=0)
    print("said", [str(w.message) for w in caught if "replicas" in str(w.message)])
"""
    result = run_script(script)
    alone, several = [line for line in result.stdout.splitlines() if line.startswith("said")]
    assert alone == "said []"
    for part in ("by itself", "numbers of tokens", "the same numbers on every replica", "Trainer"):
        assert part in several
    assert "overflow" not in several
