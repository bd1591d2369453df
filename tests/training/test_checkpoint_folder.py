"""Folders of checkpoints with something wrong in them: damage, strays, leftovers, and others who write there."""

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_attn.training import Checkpoints, Trainer
from keras_attn.training.checkpoints.record import _record_digest

STATE = {"a": np.arange(3.0)}
LOCK = importlib.util.find_spec("keras_attn.folder_lock").origin


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


@pytest.fixture(scope="module")
def original(model, tmp_path_factory):
    """A folder with the checkpoints of the steps 1 and 2, whose states differ."""
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    for step in (1, 2):
        Checkpoints(folder).save(step, {"a": STATE["a"] + step}, model, {"loss": 1.0})
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


@contextlib.contextmanager
def at_most(seconds):
    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def found(folder):
    """The step that `latest` finds, whose state it checks."""
    step, state = Checkpoints(folder).latest({"a": (3,)})
    np.testing.assert_array_equal(state["a"], STATE["a"] + step)
    return step


def fifo(path):
    os.mkfifo(path)


def of(content):
    return lambda path: path.write_bytes(content)


DAMAGE = {
    "list": of(b"[1]"),
    "deep": of(b"[" * 100_000),
    "null": of(b"null"),
    "empty": of(b""),
    "number": of(b"9" * 10_000),
    "bytes": of(b"\xff\xfe\0"),
    "object": of(b'{"step": 2}'),
    "missing": lambda path: None,
    "fifo": fifo,
    "folder": lambda path: path.mkdir(),
    "link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("file", ["checkpoint.json", "state.npz", "model.keras"])
def test_whatever_stands_in_the_place_of_a_file_costs_one_checkpoint(file, folder):
    path = folder / "step-00000002" / file
    for name, damage in DAMAGE.items():
        path.unlink()
        damage(path)
        with at_most(20), pytest.warns(UserWarning, match="step-00000002 is damaged and skipped"):
            assert found(folder) == 1, name
        shutil.rmtree(path.parent)
        Checkpoints(folder).save(2, {"a": STATE["a"] + 2}, keras.Sequential([keras.Input((1,))]))
        assert found(folder) == 2


repeatable = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@repeatable(max_examples=100)
@given(data=st.data())
def test_no_damage_gives_a_wrong_state(data, original):
    path = original / "step-00000002" / data.draw(st.sampled_from(["checkpoint.json", "state.npz", "model.keras"]))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)) | st.just(len(content)))
    try:
        path.write_bytes(content[:start] + data.draw(st.binary(max_size=20)) + content[end:])
        with at_most(20), contextlib.suppress(UserWarning):
            assert found(original) in (1, 2)
    finally:
        path.write_bytes(content)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), st.lists, max_leaves=3)


@repeatable(max_examples=50)
@given(key=st.sampled_from(["step", "dataset", "logs", "shapes", "sha256", "settings", "other"]), value=JSON)
def test_a_record_of_other_entries_is_damaged_or_of_another_run(key, value, original):
    path = original / "step-00000002" / "checkpoint.json"
    content = path.read_bytes()
    record = json.loads(content)
    record[key] = value
    del record["record_sha256"]
    record["record_sha256"] = _record_digest(record)
    path.write_text(json.dumps(record))
    # Its checksum is right, as that of another version may be: nothing but a refusal in words may come of it.
    try:
        step = found(original)
    except ValueError as error:
        step = str(error)
    finally:
        path.write_bytes(content)
    assert step in (1, 2) or "`checkpoints` must be from this" in step


STRAYS = ["step-²", "step-3", "step-00000003.bak", "step-0000000x", ".replaced.notes", ".step-notes", "notes"]


def test_strays_are_nobody_s_checkpoints(folder, model):
    for name in STRAYS:
        (folder / name).mkdir()
    (folder / "step-00000009").write_text("a file")
    os.mkfifo(folder / "step-00000008")
    with at_most(20):
        assert found(folder) == 2
        checkpoints = Checkpoints(folder, keep=1)
        checkpoints.save(3, {"a": STATE["a"] + 3}, model)
    assert checkpoints.steps() == [3]
    left = {*STRAYS, "step-00000009", "step-00000008", "step-00000003"}
    assert set(os.listdir(folder)) == left


def test_a_copy_takes_no_place_of_a_whole_one(folder, model):
    shutil.copytree(folder / "step-00000001", folder / "step-00000003")
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.save(4, {"a": STATE["a"] + 4}, model)
    assert checkpoints.steps() == [2, 4]


def test_what_a_kill_left_is_removed(folder, model):
    (folder / ".step-00000003.12345").mkdir()
    (folder / ".step-00000003.12345" / "state.npz").write_bytes(b"half of it")
    (folder / ".step-00000004.77").write_bytes(b"")
    (folder / "step-00000002").rename(folder / ".replaced.step-00000002")
    (folder / ".replaced.step-00000001").mkdir()
    (folder / ".lock").write_text(", process 1 on a machine that is off,")
    assert found(folder) == 2
    assert sorted(os.listdir(folder)) == ["step-00000001", "step-00000002"]


@contextlib.contextmanager
def another_process(folder, script):
    """A process that runs `script`, in which `lock` is a lock on the folder, and has printed a line."""
    load = f"""
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("folder_lock", {LOCK!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
lock = module.FolderLock({str(folder)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", load + script], stdout=subprocess.PIPE, text=True)
    try:
        process.line = process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.wait()


HOLDS = "with lock.held():\n    print('held', flush=True)\n    time.sleep(100)"


def small_trainer(folder, **settings):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    return Trainer(model, keras.optimizers.SGD(0.1), "mse", checkpoints=Checkpoints(folder, **settings))


def ones(count=4):
    return tf.data.Dataset.from_tensors((np.ones((count, 1), "float32"), np.ones((count, 1), "float32")))


def test_another_training_run_is_named_at_the_start_until_it_dies(folder, tmp_path):
    run = tmp_path / "other"
    with another_process(run, HOLDS) as other:
        assert other.line == "held"
        one = small_trainer(run)
        for kind in (ValueError, OSError):
            with pytest.raises(
                kind, match=rf"a folder that no other run uses: .*, process {other.pid} on .*, writes to it"
            ):
                one.fit(ones(), 2)
        assert one.step == 0
        assert Checkpoints(run).latest({}) is None
        other.send_signal(signal.SIGKILL)
        other.wait()
        one.fit(ones(), 2)
    assert os.listdir(run) == ["step-00000002"]
    with another_process(folder, HOLDS):
        assert found(folder) == 2
        (folder / ".step-00000003.1").mkdir()
        assert found(folder) == 2
        assert (folder / ".step-00000003.1").exists(), "may be what the other one writes just now"


def test_a_child_of_a_dead_process_holds_no_lock(tmp_path):
    script = "with lock.held():\n    child = os.fork()\n    child and print(child, flush=True)\n    time.sleep(100)"
    with another_process(tmp_path, script) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        try:
            with Checkpoints(tmp_path).writing(tries=50):
                pass
        finally:
            os.kill(int(other.line), signal.SIGKILL)


def test_saves_of_two_take_turns(tmp_path, model):
    errors = []

    def save(number):
        checkpoints = Checkpoints(tmp_path, keep=2)
        try:
            for step in range(1, 6):
                checkpoints.save(step, {"a": np.full(3, number)}, model)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(os.listdir(tmp_path)) == ["step-00000004", "step-00000005"]


def test_no_lock_where_the_file_system_knows_none(folder, model, monkeypatch):
    import fcntl

    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    Checkpoints(folder).save(3, {"a": STATE["a"] + 3}, model)
    assert found(folder) == 3


def test_a_misspelt_monitor_is_refused_at_the_start(tmp_path):
    def fit(callbacks=(), validation_data=None, **settings):
        small_trainer(tmp_path, keep_best=1, **settings).fit(ones(), 1, callbacks, validation_data)

    with pytest.raises(ValueError, match=r"one of \[.*'val_loss'\]\. Received: monitor='val_los'"):
        fit(monitor="val_los", validation_data=ones())
    with pytest.raises(ValueError, match=r"as there are no `validation_data`\. Received: monitor='val_loss'"):
        fit()
    with pytest.raises(ValueError, match=r"`monitor` must be the name of a metric\. Received: monitor=3"):
        Checkpoints(tmp_path, monitor=3)
    assert not os.listdir(tmp_path)
    fit(monitor="loss")
    # Who knows what a user's own callback logs.
    fit([type("Own", (keras.callbacks.Callback,), {})()], monitor="val_own")


@pytest.mark.parametrize("clock", [lambda: 5.0, iter(range(10**6, 0, -1)).__next__], ids=["stands", "goes back"])
def test_a_clock_that_jumps_ends_no_run(clock, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        for name in ("time", "perf_counter", "monotonic"):
            patch.setattr(time, name, clock)
        # Years that no archive knows.
        patch.setattr(time, "localtime", lambda *_: time.gmtime(5))
        small_trainer(tmp_path, every=1).fit(ones(), 3, [keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    assert Checkpoints(tmp_path).steps() == [1, 2, 3]


def test_a_fit_without_anything_left_says_so(tmp_path):
    one = small_trainer(tmp_path)
    one.fit(ones(), 3)
    for again, steps, made in ((one, 3, "as many as were made"), (one, 2, "of which 3 were made")):
        with pytest.warns(UserWarning, match=f"`steps` is {steps}, {made}: nothing is left to train"):
            again.fit(ones(), steps)
    with pytest.warns(UserWarning, match="`steps` is 3, as many as were made: nothing is left to train"):
        assert small_trainer(tmp_path).fit(ones(), 3).history["loss"]


@pytest.mark.parametrize("target", ["nowhere", "itself"])
@pytest.mark.parametrize("name", ["step-00000002", "step-00000003", ".replaced.step-00000003", ".lock"])
def test_links_that_lead_nowhere(name, target, folder, model):
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / name)
    (folder / name).symlink_to(folder / (name if target == "itself" else "nowhere"))
    assert found(folder) == (1 if name == "step-00000002" else 2)
    for step in (2, 3):
        Checkpoints(folder).save(step, {"a": STATE["a"] + step}, model, {"loss": 1.0})
        assert found(folder) == step
    assert {path.name for path in folder.iterdir()} == {f"step-0000000{step}" for step in (1, 2, 3)}


@pytest.mark.parametrize("stray", ["link", "file"])
def test_a_checkpoint_that_was_set_aside_for_what_is_none(stray, folder):
    path = folder / "step-00000002"
    path.rename(folder / ".replaced.step-00000002")
    path.symlink_to("nowhere") if stray == "link" else path.write_text("")
    assert found(folder) == 2
    assert {path.name for path in folder.iterdir()} == {"step-00000001", "step-00000002"}


@pytest.mark.parametrize("value", [None, 5, b"run", "a\0b"])
def test_a_folder_that_is_none(value):
    with pytest.raises(ValueError, match="`folder` must be the path of a folder"):
        Checkpoints(value)


def test_a_folder_that_is_a_link_to_nothing(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"`folder` must be a folder.* a broken link"):
        Checkpoints(tmp_path / "run")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can write")
def test_a_folder_that_cannot_be_written_to_is_named_at_the_start():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    trainer = Trainer(model, keras.optimizers.SGD(0.1), "mse", checkpoints=Checkpoints("/proc/runs"))
    data = tf.data.Dataset.from_tensor_slices((np.ones((4, 1), "float32"), np.ones((4, 1), "float32"))).batch(2)
    with pytest.raises(OSError, match=r"`checkpoints` must be in a writable folder.*/proc/runs"):
        trainer.fit(data, steps=2)
    assert trainer.step == 0
