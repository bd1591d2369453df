"""An export that an exception or a kill ends leaves the artefacts that were there, or all of the new ones."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import interrupted_moves
import keras
import numpy as np
import pytest
from training_processes import run_script

from keras_attn.export import export, verify
from keras_attn.export.folder import staging

EXPORT_AND_DIE = """
import os, signal, sys
import keras
from keras_attn.export import export

x = keras.Input((3,), name="x")
model = keras.Model(x, keras.layers.Dense(2)(x))
replace, moved = os.replace, []

def replace_or_die(source, destination):
    moved.append(source)
    if len(moved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, destination)

os.replace = replace_or_die
export(model, sys.argv[1], "tflite", tasks="forward")
"""


def interrupt():
    raise KeyboardInterrupt


def visible(path):
    return {name: text for name, text in interrupted_moves.content(path).items() if not name.startswith(".export")}


def bytes_of(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The folders of an export that did not happen, and of one that nothing ended."""
    path = tmp_path_factory.mktemp("undisturbed")
    interrupted_moves.make_old(path)
    old = interrupted_moves.content(path)
    interrupted_moves.make_new(staging, path)
    return old, interrupted_moves.content(path)


def test_an_exception_at_every_line(outcomes, tmp_path):
    path, line, found = tmp_path / "out", 1, []
    while interrupted_moves.ended_at(line, interrupt, staging, path):
        found.append(outcomes.index(visible(path)))
        with staging.workspace(path):
            pass
        assert interrupted_moves.content(path) == outcomes[found[-1]], line
        line += 1
    assert len(found) > 100
    assert found == sorted(found)
    assert visible(path) == outcomes[1]


def test_a_second_exception_while_the_first_is_undone(outcomes, tmp_path, monkeypatch):
    path, replace, calls = tmp_path / "out", os.replace, []

    def fail(source, destination):
        calls.append(source)
        if len(calls) >= 4:
            raise KeyboardInterrupt
        replace(source, destination)

    interrupted_moves.make_old(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            interrupted_moves.make_new(staging, path)
    assert len(calls) > 4
    assert visible(path) not in outcomes
    with staging.workspace(path):
        assert visible(path) == outcomes[0]


def test_a_kill(outcomes, tmp_path):
    command = [sys.executable, interrupted_moves.__file__, tmp_path / "out"]
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert {outcomes.index(after) for _, after in found} == {0, 1}
    assert any(left not in outcomes for left, _ in found)
    # A file is there at every moment, old or new.
    assert all({"model.tflite", "manifest.json"} <= left.keys() for left, _ in found)


def test_a_workspace_that_is_in_use_stays(tmp_path):
    with staging.workspace(tmp_path) as one:
        with staging.workspace(tmp_path) as other:
            assert one != other
        assert one.exists()
        assert not other.exists()


def test_a_folder_is_locked_by_one_at_a_time(tmp_path):
    entered = threading.Event()

    def enter():
        with staging.locked(tmp_path):
            entered.set()

    with staging.locked(tmp_path) as is_held:
        thread = threading.Thread(target=enter)
        thread.start()
        with staging.locked(tmp_path, wait=False) as is_also_held:
            assert (is_held, is_also_held) == (True, False)
        assert not entered.wait(0.05)
    thread.join(10)
    assert entered.is_set()
    assert os.listdir(tmp_path) == []


def test_what_a_hostile_folder_calls_unfinished_moves_nothing_from_outside(tmp_path):
    (tmp_path / "secret").write_text("kept")
    left = tmp_path / "out" / ".export-left"
    left.mkdir(parents=True)
    (left / "replaced").symlink_to(tmp_path)
    for names in (["secret"], ["../secret"], [str(tmp_path / "secret")], 5, [["secret"]]):
        (left / "moves.json").write_text(json.dumps({"names": names, "replaced": names}))
        with staging.workspace(tmp_path / "out"):
            pass
        assert (tmp_path / "secret").read_text() == "kept"
        left.mkdir(parents=True)
        (left / "replaced").symlink_to(tmp_path)


def test_ctrl_c_while_artefacts_are_moved(tflite_folder, classifier, monkeypatch):
    before, replace, moved = bytes_of(tflite_folder), os.replace, []

    def fail(source, destination):
        # Converters replace files too.
        moved.extend([source] if tflite_folder in Path(destination).parents else [])
        if len(moved) == 3:
            moved.append("no more")
            raise KeyboardInterrupt
        replace(source, destination)

    classifier.layers[-1].kernel.assign(classifier.layers[-1].kernel + 1)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        export(classifier, tflite_folder, "tflite", tasks="forward")
    assert bytes_of(tflite_folder) == before


def test_an_export_after_one_that_was_killed(tmp_path):
    x = keras.Input((3,), name="x")
    model = keras.Model(x, keras.layers.Dense(2)(x))
    export(model, tmp_path, "tflite", tasks="forward")
    before = bytes_of(tmp_path)
    process = run_script(EXPORT_AND_DIE, tmp_path)
    assert process.returncode == -9, process.stderr
    assert bytes_of(tmp_path) != before
    export(model, tmp_path, "onnx", tasks="forward")
    assert {row["format"] for row in verify(tmp_path).rows if row["ok"]} == {"tflite", "onnx"}
    assert {name: content for name, content in bytes_of(tmp_path).items() if name == "model.tflite"} == {
        "model.tflite": before["model.tflite"]
    }
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_broken_manifest_ends_the_export_before_it_loses_an_artefact(tflite_folder, classifier):
    for content in ("{", '{"artefacts": []}', '{"artefacts": [{"format": "onnx"}]}'):
        (tflite_folder / "manifest.json").write_text(content)
        before = bytes_of(tflite_folder)
        with pytest.raises(ValueError, match=r"export to another folder, or delete manifest\.json"):
            export(classifier, tflite_folder, "onnx", tasks="forward")
        assert bytes_of(tflite_folder) == before


def test_another_format_on_other_samples_keeps_the_first_verified(tflite_folder, classifier):
    samples = {"features": np.ones((2, 4, 3), "float32"), "extra": np.ones((2, 3), "float32")}
    export(classifier, tflite_folder, "onnx", tasks="forward", samples=samples)
    report = verify(tflite_folder)
    assert report.ok
    assert [row["format"] for row in report.rows] == ["tflite", "onnx"]
