"""The weights after some steps, on one device and on several: the same global batches give the same."""

import pytest
from training_processes import largest_difference, run, run_group, weights
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
