"""Artefacts agree with their model, run without it, and are written whole or not at all."""

import importlib.util
import json
import os
import subprocess
import sys

import deployed_clients
import keras
import numpy as np
import pytest

import keras_attn
from keras_attn.export import ExportError, Report, export, registry
from keras_attn.export.folder import manifest, staging
from keras_attn.export.formats.tflite import graphs
from keras_attn.export.tasks import reference
from keras_attn.export.verification import clients, verification

FORMATS = ["saved_model", "tflite", "onnx"]


def test_every_format_and_task_agrees(exported):
    path, report = exported
    assert [(row["format"], row["task"]) for row in report.rows] == [
        (name, task) for name in FORMATS for task in ("generate", "forward")
    ]
    assert report.ok
    for row in report.rows:
        assert row["max_abs_diff"] <= 1e-4
        assert row["identical"] == row["total"] > 5
        assert row["flex_ops"] == 0
        assert row["ms"] > 0
        assert row["bytes"] > 1000
    assert sorted(os.listdir(path)) == [
        "forward.onnx",
        "generate.onnx",
        "manifest.json",
        "model.tflite",
        "report.json",
        "saved_model",
        "verification",
    ]
    assert json.loads((path / "report.json").read_text())["artefacts"] == report.rows


def test_the_manifest_names_tools_and_digests(exported):
    path, _ = exported
    entries = json.loads((path / "manifest.json").read_text())["artefacts"]
    assert {(entry["format"], entry["task"], entry["precision"]) for entry in entries} == {
        (name, task, "float32") for name in ("saved_model", "tflite", "onnx") for task in ("generate", "forward")
    }
    for entry in entries:
        assert {"keras_attn", "keras", "tensorflow", "python"} <= set(entry["versions"])
        assert all(manifest.sha256(path / name) == digest for name, digest in entry["files"].items())
    listed = {name for entry in entries for name in entry["files"]}
    written = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert written - listed == {"manifest.json", "report.json"}


def test_signatures_share_weights(exported, transformer):
    path, _ = exported
    assert (path / "model.tflite").stat().st_size < (
        (path / "generate.onnx").stat().st_size + (path / "forward.onnx").stat().st_size
    )
    assert graphs.operators((path / "model.tflite").read_bytes())["WHILE"] == 1


def test_cases_differ_in_batch_length_and_padding(exported):
    path, _ = exported
    with np.load(path / "verification" / "forward.npz", allow_pickle=False) as cases:
        shapes = {cases[name].shape for name in cases.files if name.endswith("source_ids")}
        assert len({batch for batch, _ in shapes}) >= 2
        assert len({length for _, length in shapes}) >= 2
        assert any(np.any(cases[name] == 0) for name in cases.files if name.startswith("inputs/"))
    with np.load(path / "verification" / "generate.npz", allow_pickle=False) as cases:
        strings = [text for name in cases.files if name.endswith("source") for text in cases[name].tolist()]
        texts = [text for name in cases.files if name.endswith("text") for text in cases[name].tolist()]
    assert "" in strings
    assert any("☃" in text for text in strings)
    assert len(set(texts)) > 2


@pytest.mark.parametrize(
    ("format", "artefact", "forbidden"),
    [
        ("saved_model", "saved_model", ["keras_attn"]),
        ("tflite", "model.tflite", ["keras_attn"]),
        ("onnx", "generate.onnx", ["keras_attn", "keras", "tensorflow"]),
    ],
)
def test_clients_answer_without_the_package(exported, transformer, format, artefact, forbidden):
    path, _ = exported
    texts = ["bad cafe", "日é", ""]
    process = deployed_clients.run(format, path / artefact, *texts, forbidden=forbidden)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == transformer.generate(texts)


def test_onnx_axes_have_names(exported):
    import onnx

    path, _ = exported
    graph = onnx.load(path / "forward.onnx").graph
    axes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert axes == {
        "source_ids": ["batch", "source_length"],
        "target_ids": ["batch", "target_length"],
        "logits": ["batch", "target_length", 17],
    }


def test_generation_on_ids_without_a_tokenizer(tmp_path, tiny_transformer):
    report = export(tiny_transformer(), tmp_path, "tflite")
    assert [row["task"] for row in report.rows] == ["generate"]
    client = subprocess.run(
        [sys.executable, clients.script("tflite"), tmp_path / "model.tflite", "5 6 7"], capture_output=True, text=True
    )
    assert len(client.stdout.split()) == 5


def test_samples_are_what_is_verified(transformer):
    samples = ["abc", *("jj é"[:size] for size in range(40))]
    cases = registry.load("tasks", "generate")(transformer).cases(samples)
    assert [len(case["source"]) for case in cases] == [1, 32, 8]
    assert [text for case in cases for text in case["source"].tolist()] == samples


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_any_functional_model_exports(format, tmp_path):
    left, right = keras.Input((None,), dtype="int32", name="left"), keras.Input((None, 4), name="right")
    mask = keras.Input((None,), dtype="bool", name="mask", optional=True)
    x = keras.layers.Embedding(9, 4)(left) + right
    x = keras.layers.Dense(3, activation="gelu")(x)
    model = keras.Model([left, right, mask], {"gelu": x, "pooled": keras.ops.max(x, axis=1)})
    report = export(model, tmp_path, format, tasks="forward")
    assert report.rows[0]["identical"] == report.rows[0]["total"]


def test_a_second_export_keeps_what_the_first_made(tflite_folder, classifier):
    export(classifier, tflite_folder, "onnx", tasks="forward")
    entries = json.loads((tflite_folder / "manifest.json").read_text())["artefacts"]
    assert [entry["format"] for entry in entries] == ["tflite", "onnx"]
    export(classifier, tflite_folder, "tflite", tasks="forward")
    assert len(json.loads((tflite_folder / "manifest.json").read_text())["artefacts"]) == 2
    assert verification.verify(tflite_folder).ok


@pytest.mark.parametrize(("format", "operator"), [("tflite", "Erf"), ("onnx", "Bitcast")])
def test_an_operator_that_the_format_lacks(format, operator, tmp_path):
    x = keras.Input((3,), name="x")
    y = keras.ops.erf(x) if format == "tflite" else keras.ops.cast(keras.ops.signbit(x), "float32")
    with pytest.raises(ExportError, match=rf"{format}.*forward.*{operator}"):
        export(keras.Model(x, y), tmp_path / "new" / "out", format, tasks="forward")
    assert os.listdir(tmp_path) == []


def test_a_failing_export_leaves_the_old_artefact(tflite_folder):
    before = {file: file.read_bytes() for file in tflite_folder.rglob("*") if file.is_file()}
    x = keras.Input((3,), name="x")
    with pytest.raises(ExportError):
        export(keras.Model(x, keras.ops.erf(x)), tflite_folder, "tflite", tasks="forward")
    assert {file: file.read_bytes() for file in tflite_folder.rglob("*") if file.is_file()} == before


def test_a_move_that_fails_is_undone(tmp_path, monkeypatch):
    folder, path = tmp_path / "work", tmp_path / "out"
    for parent, content in ((folder, "new"), (path, "old")):
        (parent / "a").mkdir(parents=True)
        (parent / "a" / "file").write_text(content)
        (parent / "b").write_text(content)
    replace = os.replace

    def fail_on_new_b(source, destination):
        if source == folder / "b":
            raise OSError("disk gone")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail_on_new_b)
    with pytest.raises(OSError, match="disk gone"):
        staging.install(folder, ["a", "b"], path)
    assert (path / "a" / "file").read_text() == (path / "b").read_text() == "old"


def test_an_artefact_that_differs_is_not_installed(classifier, tmp_path, monkeypatch):
    honest = reference.outputs
    monkeypatch.setattr(
        reference, "outputs", lambda call, inputs: {k: v + 1e-3 for k, v in honest(call, inputs).items()}
    )
    with pytest.raises(ExportError, match=r"model.tflite \(tflite, forward\): logits of case 0 differs by 1") as error:
        export(classifier, tmp_path / "out", "tflite", tasks="forward")
    assert not error.value.report.ok
    assert os.listdir(tmp_path) == []


def test_a_model_that_returns_nan(tmp_path):
    x = keras.Input((3,), name="x")
    with pytest.raises(ValueError, match="finite"):
        export(keras.Model(x, keras.ops.log(x)), tmp_path / "out", "tflite", tasks="forward")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "coreml"}, "`format`.*'coreml'"),
        ({"format": []}, "`format`"),
        ({"tasks": ["forward", "translate"]}, "`tasks`.*'translate'"),
        ({"tasks": "generate"}, "generation_config"),
        ({"precision": "int3"}, r"`precision` must name one or more of .*'int3'"),
        ({"precision": ["float32", "int4"]}, r"`precision` of format 'tflite' must be one of .*'int4'"),
        ({"precision": "int8_full", "keep_float": "dense"}, "`keep_float` must be empty for format 'tflite'"),
        ({"format": "onnx", "precision": "int8", "keep_float": "conv"}, "`keep_float` must name.*'conv'"),
        ({"samples": ["a"]}, "`samples`"),
        ({"model": keras.Sequential([keras.layers.Dense(2)])}, "`model`"),
        ({"model": "model.keras"}, "`model`"),
    ],
)
def test_bad_arguments(arguments, message, classifier, tmp_path):
    arguments = {"model": classifier, "path": tmp_path / "out", "format": "tflite", "tasks": "forward", **arguments}
    with pytest.raises(ValueError, match=message):
        export(**arguments)
    assert os.listdir(tmp_path) == []


def test_half_precision_is_refused(tmp_path):
    x = keras.Input((3,), name="x")
    model = keras.Model(x, keras.layers.Dense(2, dtype="mixed_bfloat16")(x))
    with pytest.raises(ValueError, match=r"float32.*bfloat16"):
        export(model, tmp_path, "tflite", tasks="forward")


def test_a_tokenizer_of_more_pieces_than_rows(tmp_path, tiny_transformer):
    from keras_attn.text import CharacterTokenizer

    with pytest.raises(ValueError, match="`vocabulary_size` must be at least that of the tokenizer, 30"):
        export(tiny_transformer(), tmp_path, "tflite", tokenizer=CharacterTokenizer("abcdefghijklmnopqrstuvwxyz"))
    with pytest.raises(ValueError, match=r"`tokenizer` must be a Tokenizer, None or False. Received: True"):
        export(tiny_transformer(), tmp_path, "tflite", tokenizer=True)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["file", "file/below", "/proc/out"])
def test_a_path_that_cannot_be_written(path, classifier, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(verification, "record", lambda *_: pytest.fail("the work had begun"))
    with pytest.raises(ValueError, match="`path` must be a folder that can be written to"):
        export(classifier, tmp_path / path, "tflite", tasks="forward")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("format", "module", "extra"), [("tflite", "ai_edge_litert", "litert"), ("onnx", "tf2onnx", "onnx")]
)
def test_a_missing_extra_is_named(format, module, extra, classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert importlib.util.find_spec(module) is None
    with pytest.raises(ImportError, match=rf"keras_attn\[{extra}\]"):
        export(classifier, tmp_path / "out", format, tasks="forward")
    assert os.listdir(tmp_path) == []


def test_importing_export_is_light():
    code = "import sys, types; sys.modules['keras_attn'] = p = types.ModuleType('keras_attn'); "
    code += f"p.__path__ = [{os.path.dirname(keras_attn.__file__)!r}]; import keras_attn.export; "
    code += "print(sorted({'keras', 'tensorflow', 'onnx', 'tf2onnx', 'onnxruntime'} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr


def test_the_table_lists_failures():
    row = {"format": "onnx", "precision": "float32", "task": "forward", "bytes": 999, "max_abs_diff": None}
    row |= {"identical": 0, "total": 0, "ms": None, "flex_ops": 0, "ok": False, "message": "does not run"}
    report = Report([row])
    assert not report.ok
    assert report.failures == ["does not run"]
    assert report.table().splitlines()[1].split() == [
        "onnx",
        "float32",
        "forward",
        "999",
        "B",
        *"--",
        "0/0",
        *"--",
        "0",
        "0",
        "NO",
    ]
    assert not Report().ok
