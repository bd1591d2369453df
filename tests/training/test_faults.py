"""Trainings that something happened to end with the weights of one that nothing happened to, bit for bit."""

import os
import resource
import shutil
import signal

import keras
import numpy as np
import pytest
from training_processes import largest_difference, run, run_group, weights
from training_run import Pairs, trainer

from keras_attn.training import Checkpoints
from keras_attn.training.checkpoints.checkpoints import named

STEPS = 6
SETTINGS = {"dropout": 0.2, "accumulation_steps": 2}


def trained(folder, steps=STEPS, **settings):
    one = trainer(folder=folder, **SETTINGS, **settings)
    one.fit(Pairs(), steps)
    return one.model.get_weights()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """`(folder with its checkpoints, final weights)`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, trained(folder)


def test_sigterm(tmp_path):
    # All in processes of their own: in one that has run much else, TensorFlow may add in another order.
    settings = {"steps": STEPS, "every": 100, **SETTINGS}
    stopped = {"folder": str(tmp_path / "run"), "out": str(tmp_path / "stopped"), **settings}
    result = run(fault={"task": 0, "step": 3, "signal": "SIGTERM"}, **stopped)
    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert Checkpoints(tmp_path / "run").steps() == [3]
    for one in (stopped, {"out": str(tmp_path / "whole"), **settings}):
        assert run(**one).returncode == 0
    assert largest_difference(weights(tmp_path / "stopped.0.npz"), weights(tmp_path / "whole.0.npz")) == 0


def test_a_checkpoint_is_also_a_model(undisturbed):
    folder, final = undisturbed
    assert Checkpoints(folder).steps() == [2, 4, 6]
    saved = keras.saving.load_model(folder / "step-00000006" / "model.keras", compile=False)
    assert largest_difference(saved.get_weights(), final) == 0


@pytest.mark.parametrize("file", ["state.npz", "model.keras", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint(undisturbed, tmp_path, file, damage):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    path = folder / "step-00000006" / file
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)
    one = trainer(folder=folder, **SETTINGS)
    shapes = {name: v.shape for name, v in one._state().items()}
    with pytest.warns(UserWarning, match="step-00000006 is damaged"):
        step, _ = Checkpoints(folder).latest(shapes, "pairs")
    assert step == 4


def test_no_bit_of_the_record_flips_unseen(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    path = folder / "step-00000006" / "checkpoint.json"
    content = path.read_bytes()
    checkpoints = Checkpoints(folder)
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        problem = checkpoints._read(6)[1]
        # White space between the values is nothing that the record says.
        assert problem or chr(content[place]).isspace(), (place, content[place - 20 : place + 20])
    path.write_bytes(content)
    assert checkpoints._read(6)[1] is None


def test_going_on_from_the_last_good_checkpoint(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    (folder / "step-00000006" / "state.npz").write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        assert largest_difference(trained(folder), undisturbed[1]) == 0
    for step in (2, 4, 6):
        (folder / f"step-{step:08d}" / "state.npz").write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="all are damaged"):
        trained(folder)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_checkpoint_that_could_not_be_replaced(is_killed, undisturbed, tmp_path, monkeypatch):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    one = trainer(folder=folder, **SETTINGS)
    state, rename = {name: np.asarray(v) for name, v in one._state().items()}, os.replace

    def replace(source, target):
        if os.path.basename(source).startswith(".step-"):
            raise KeyboardInterrupt if is_killed else OSError(5, "refused")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        if is_killed:
            patch.setattr(Checkpoints, "_end_replacements", lambda self: None)
        with pytest.raises(KeyboardInterrupt if is_killed else OSError, match=None if is_killed else "refused"):
            one.checkpoints.save(6, state, one.model)
    assert Checkpoints(folder).latest({name: v.shape for name, v in state.items()}, "pairs")[0] == 6
    assert sorted(os.listdir(folder)) == [f"step-0000000{step}" for step in (2, 4, 6)]


def test_damaged_checkpoints_take_no_place(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    (folder / "step-00000006" / "state.npz").write_bytes(b"")
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(5, {"x": np.ones(2)}, trainer().model)
    assert checkpoints.steps() == [5, 6]


def test_a_full_disk(undisturbed, tmp_path):
    """Files may not grow beyond the size of a checkpoint's smallest file: writing fails as on a full disk."""
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    shutil.rmtree(folder / "step-00000006")
    one = trainer(folder=folder, **SETTINGS)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="checkpoint of step 6 could not be written"):
            one.fit(Pairs(), STEPS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(os.listdir(folder)) == ["step-00000002", "step-00000004"]
    assert largest_difference(trained(folder), undisturbed[1]) == 0


@pytest.fixture(scope="module")
def undisturbed_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    log = folder / "log.csv"
    assert run_group(steps=STEPS, folder=str(folder / "run"), out=str(folder / "w"), log=str(log), **SETTINGS) == [0, 0]
    assert log.read_text().count("\n") == 2, "one worker writes what callbacks log: a head and an epoch"
    return weights(folder / "w.0.npz")


@pytest.mark.parametrize("task", [0, 1], ids=["chief", "worker"])
def test_kill_9(undisturbed_workers, tmp_path, task):
    settings = {"steps": STEPS, "folder": str(tmp_path / "run"), "out": str(tmp_path / "w"), **SETTINGS}
    statuses = run_group(fault={"task": task, "step": 3, "signal": "SIGKILL"}, **settings)
    assert statuses[task] == -signal.SIGKILL
    assert statuses[1 - task] != 0
    assert Checkpoints(tmp_path / "run").steps() == [2]
    assert run_group(**settings) == [0, 0]
    assert largest_difference(weights(tmp_path / "w.0.npz"), undisturbed_workers) == 0
    assert largest_difference(weights(tmp_path / "w.1.npz"), undisturbed_workers) == 0


def test_sigterm_to_one_worker_stops_all(undisturbed_workers, tmp_path):
    settings = {"steps": STEPS, "folder": str(tmp_path / "run"), "out": str(tmp_path / "w"), **SETTINGS}
    fault = {"task": 1, "step": 3, "signal": "SIGTERM"}
    assert run_group(fault=fault, **settings) == [128 + signal.SIGTERM] * 2
    assert Checkpoints(tmp_path / "run").steps() == [2, 4]
    assert run_group(**settings) == [0, 0]
    assert largest_difference(weights(tmp_path / "w.0.npz"), undisturbed_workers) == 0


def test_checkpoints_of_another_training(undisturbed):
    folder, _ = undisturbed
    one = trainer(folder=folder, **SETTINGS)
    shapes = {name: v.shape for name, v in one._state().items()}
    assert one.checkpoints.latest(shapes, "pairs")[0] == STEPS
    with pytest.raises(ValueError, match=r"from this data set.*'pairs' and not 'others'"):
        one.checkpoints.latest(shapes, "others")
    with pytest.raises(ValueError, match=r"from this model and optimizer.*weights/more"):
        trainer(folder=folder, **SETTINGS).checkpoints.latest(shapes | {"weights/more": (3,)}, "pairs")


def test_averages(undisturbed):
    folder, _ = undisturbed
    model = trainer().model
    assert Checkpoints(folder).average(model, last=2) == [4, 6]
    states = []
    for step in (4, 6):
        with np.load(folder / f"step-{step:08d}" / "state.npz") as file:
            states.append([file[name] for name in named("weights", model.weights)])
    means = [(a.astype("float64") + b) / 2 for a, b in zip(*states, strict=True)]
    assert largest_difference(model.get_weights(), means) <= 1e-7
    with pytest.raises(ValueError, match="but there are 3"):
        Checkpoints(folder).average(model, last=4)
    with pytest.raises(ValueError, match="One of"):
        Checkpoints(folder).average(model)
