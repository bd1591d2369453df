"""A manifest that `export` would not write is refused in one line, and nothing outside of its folder is opened."""

import copy
import json
import os
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_attn import cli
from keras_attn.export import export, inspect, verify
from keras_attn.export.folder import manifest
from keras_attn.export.verification import clients


class Opened:
    """The files that Python opens or lists while it is `on`."""

    def __init__(self):
        self.on, self.paths = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.on and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | Path):
            self.paths.append(os.fsdecode(arguments[0]))


OPENED = Opened()


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    """A folder of artefacts, which no test changes."""
    keras.utils.set_random_seed(3)
    x = keras.Input((3,), name="x")
    path = tmp_path_factory.mktemp("exported") / "A"
    export(keras.Model(x, keras.layers.Dense(2)(x)), path, ["tflite", "saved_model"], tasks="forward")
    return path


@pytest.fixture
def folder(artefacts, tmp_path):
    return shutil.copytree(artefacts, tmp_path / "B")


def entries_of(folder):
    return json.loads((folder / "manifest.json").read_text())["artefacts"]


def change(folder, entries):
    (folder / "manifest.json").write_text(json.dumps({"artefacts": entries}))


def refuse(folder, capsys, match=""):
    """Both commands end with status 2 and one line."""
    for command in ("verify", "inspect"):
        assert cli.main([command, str(folder)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert match in err


OUTSIDE = {
    "up": lambda folder, entry: {"path": "../A/" + entry["path"], "cases": "../A/" + entry["cases"], "files": {}},
    "up, listed": lambda folder, entry: {
        "path": "../A/" + entry["path"],
        "cases": "../A/" + entry["cases"],
        "files": {f"../A/{name}": digest for name, digest in entry["files"].items()},
    },
    "absolute": lambda folder, entry: {"path": str(folder.parent / "A" / entry["path"])},
    "cases": lambda folder, entry: {"cases": "../A/" + entry["cases"]},
    "cases of another": lambda folder, entry: {"cases": "verification/forward.model.float16.tflite.npz"},
    "inputs": lambda folder, entry: {"inputs": ["x"]},
    "a file more": lambda folder, entry: {"files": {**entry["files"], "/etc/hostname": "0" * 64}},
    "a file above": lambda folder, entry: {"files": {**entry["files"], "saved_model/../../A/manifest.json": "0" * 64}},
    "no files": lambda folder, entry: {"files": {}},
    "only cases": lambda folder, entry: {"files": {entry["cases"]: entry["files"][entry["cases"]]}},
    "not the cases": lambda folder, entry: {"files": {k: v for k, v in entry["files"].items() if k != entry["cases"]}},
    "files of a list": lambda folder, entry: {"files": list(entry["files"])},
    "digests of numbers": lambda folder, entry: {"files": dict.fromkeys(entry["files"], 0)},
    "format": lambda folder, entry: {"format": "../../os"},
    "format of a list": lambda folder, entry: {"format": []},
    "task": lambda folder, entry: {"task": "os.path"},
    "precision": lambda folder, entry: {"precision": "floaty"},
    "bounds of another precision": lambda folder, entry: {"precision": "float16"},
    "path of a number": lambda folder, entry: {"path": 5},
    "drop": lambda folder, entry: {"max_accuracy_drop": float("nan")},
    "kept": lambda folder, entry: {"keep_float": 5},
    "tokenizer": lambda folder, entry: {"tokenizer": "abc"},
    "tokenizer of two lines": lambda folder, entry: {"tokenizer": {"class": "A\n\x1b[31m", "vocabulary_size": 5}},
    "tokenizer of no size": lambda folder, entry: {"tokenizer": {"class": "A", "vocabulary_size": "5\n"}},
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("index", [0, 1])
def test_an_entry_that_is_not_of_this_folder(name, index, folder, capsys):
    entries = entries_of(folder)
    entries[index] |= OUTSIDE[name](folder, entries[index])
    change(folder, entries)
    refuse(folder, capsys, f"entry {index}")


@pytest.mark.parametrize("content", ["", "5", "[]", "{", '{"artefacts": []}', '{"artefacts": [5]}', "[" * 100_000])
def test_what_is_no_manifest(content, folder, capsys):
    (folder / "manifest.json").write_text(content)
    refuse(folder, capsys, "manifest.json")


def test_a_manifest_that_is_too_large(folder, capsys):
    with open(folder / "manifest.json", "r+b") as file:
        file.truncate(2**40)
    refuse(folder, capsys, "manifest.json")


def link(path, outside):
    shutil.move(path, outside / path.name)
    path.symlink_to(outside / path.name)


def pipe(path, outside):
    link(path, outside)
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("replace", [link, pipe])
@pytest.mark.parametrize(
    "name", ["model.tflite", "saved_model", "saved_model/variables", "saved_model/saved_model.pb", "verification"]
)
def test_links_and_pipes(name, replace, folder, tmp_path, capsys):
    (tmp_path / "outside").mkdir()
    replace(folder / name, tmp_path / "outside")
    refuse(folder, capsys, "a link" if replace is link else "not a file")


@pytest.mark.parametrize("replace", [link, pipe])
def test_a_manifest_that_is_a_link_or_a_pipe(replace, folder, tmp_path, capsys):
    (tmp_path / "outside").mkdir()
    replace(folder / "manifest.json", tmp_path / "outside")
    refuse(folder, capsys, "`path`")


@pytest.mark.parametrize("name", ["saved_model/assets.extra/more.txt", "model.tflite.data"])
def test_a_file_that_no_entry_lists(name, folder, capsys):
    (folder / name).write_text("more")
    refuse(folder, capsys, name)


def test_a_pipe_is_no_artefact(tmp_path):
    os.mkfifo(tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="`path` must be"):
        inspect(tmp_path / "model.tflite")


def test_stored_cases_that_cannot_be_compared(folder):
    entries = entries_of(folder)[:1]
    path = folder / entries[0]["cases"]
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays, **{"inputs/nought/x": arrays["inputs/0/x"]})
    entries[0]["files"][entries[0]["cases"]] = manifest.sha256(path)
    change(folder, entries)
    [message] = verify(folder).failures
    assert "cannot be compared with its cases" in message


def test_stored_cases_without_outputs(folder):
    entries = entries_of(folder)[:1]
    path = folder / entries[0]["cases"]
    with np.load(path) as stored:
        arrays = {name: x for name, x in stored.items() if not name.startswith("outputs/1/")}
    np.savez(path, **arrays)
    entries[0]["files"][entries[0]["cases"]] = manifest.sha256(path)
    change(folder, entries)
    [message] = verify(folder).failures
    assert "case 1 has no outputs to compare with" in message


NAMES = ["model.tflite", "saved_model/saved_model.pb", "verification/forward.npz", "../A/model.tflite", "/etc/passwd"]
NAMES += ["verification/forward.model.tflite.npz"]
NAMES += ["saved_model/../../A/manifest.json", ".", "..", "", "a\0b", "saved_model\\..", "tflite", "onnx", "forward"]
VALUES = st.one_of(
    st.sampled_from(NAMES),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.lists(st.sampled_from(NAMES), max_size=2),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["0" * 64, ""]), max_size=3),
)
FIELDS = [*sorted(manifest.FIELDS), "max_accuracy_drop", "keep_float", "tokenizer", "inputs"]
EDITS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(FIELDS), VALUES, st.booleans()), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS)
def test_any_manifest_is_refused_or_names_what_is_there(artefacts, folder, monkeypatch, edits):
    original = entries_of(artefacts)
    entries = copy.deepcopy(original)
    for index, field, value, inside in edits:
        if inside and field == "files" and isinstance(value, dict) and isinstance(entries[index]["files"], dict):
            entries[index]["files"] |= value
        else:
            entries[index][field] = value
    change(folder, entries)
    ran = []
    monkeypatch.setattr(clients, "run", lambda format, artefact, cases: ran.append(artefact) or answers(cases))
    OPENED.paths, OPENED.on = [], True
    try:
        rows = verify(folder).rows
    except ValueError as error:
        rows = []
        assert "\n" not in str(error)  # noqa: PT017
    finally:
        OPENED.on = False
    known = {(entry["format"], entry["task"]) for entry in original}
    assert {(row["format"], row["task"]) for row in rows if row["ok"]} <= known
    assert all(path.parent == folder for path in ran)
    data = [path for path in OPENED.paths if not path.endswith((".py", ".pyc")) and "site-packages" not in path]
    assert not [path for path in data if str(artefacts) in os.path.normpath(path) or path.startswith("/etc")]


def answers(cases):
    raise clients.ClientError("not run")
