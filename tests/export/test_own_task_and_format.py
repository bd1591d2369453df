"""A task and a format of a user's own, of public names alone."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import Transformer
from keras_attn.export import ExportError, Format, Task, TensorSpec, export, inspect, register_format, register_task
from keras_attn.export import registry as export_registry

CLIENT = """
import argparse
import keras, numpy as np
parser = argparse.ArgumentParser()
parser.add_argument("artefact")
for name in ("--task", "--cases", "--out", "--repeat"):
    parser.add_argument(name)
given = parser.parse_args()
model, outputs = keras.saving.load_model(given.artefact), {}
with np.load(given.cases) as cases:
    for key in cases.files:
        kind, case, name = key.split("/", 2)
        if kind == "inputs":
            outputs[f"outputs/{case}/logits"] = model(cases[key]) * FACTOR
np.savez(given.out, **outputs, ms=0.0, peak_bytes=0)
"""


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(export_registry, "_registered", {"formats": {}, "tasks": {}})


class SentenceSimilarity(Task):
    """The cosine of the vectors of two texts."""

    name = "similarity"

    def __init__(self, model, tokenizer=None):
        if not hasattr(model, "encode"):
            raise ValueError(f"`tasks` may hold 'similarity' only for a model with `encode`. Received: {model.name}")
        super().__init__(model)
        self.inputs = {name: TensorSpec(("batch", f"{name}_length"), "int32") for name in ("first", "second")}

    def call(self, first, second):
        one, other = (ops.normalize(ops.mean(self.model.encode(ids), axis=1), axis=-1) for ids in (first, second))
        return {"similarity": ops.sum(one * other, axis=-1)}


class KerasFile(Format):
    """The model's own file, which Keras runs."""

    name = runtime = "keras_file"
    file_name = "model.keras"
    factor = 1

    def write(self, converted, folder, precision="float32", keep=(), calibration=None):
        converted[0].model.save(folder / self.path(converted[0].name, precision))

    def client(self):
        path = self.folder / "client.py"
        path.write_text(CLIENT.replace("FACTOR", str(self.factor)))
        return path

    def reads(self, path):
        return path.suffix == ".keras"

    def slow_import(self, path):
        return "keras"


def test_a_task_of_ones_own(tmp_path):
    register_task(SentenceSimilarity)
    model = Transformer(30, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16)
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks=["similarity"])
    assert [row["task"] for row in report.rows] == ["similarity"] * 3
    assert all(row["ok"] and row["identical"] == row["total"] > 0 for row in report.rows)
    with pytest.raises(ValueError, match="`tasks` may hold 'similarity' only for a model with `encode`"):
        export(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), tmp_path, "onnx", tasks="similarity")


def small_model():
    x = keras.Input((None, 5), name="x")
    return keras.Model(x, keras.layers.Dense(3)(x))


def test_a_format_of_ones_own(tmp_path):
    KerasFile.folder = tmp_path
    register_format(KerasFile)
    report = export(small_model(), tmp_path / "out", ["keras_file", "tflite"], tasks="forward")
    assert [(row["format"], row["ok"]) for row in report.rows] == [("keras_file", True), ("tflite", True)]
    assert "model.keras" in str(inspect(tmp_path / "out"))


def test_one_that_answers_otherwise_is_not_written(tmp_path):
    KerasFile.folder = tmp_path
    register_format(type("Doubled", (KerasFile,), {"name": "doubled", "factor": 2}))
    with pytest.raises(ExportError, match=r"model\.keras \(doubled, forward\).*differs"):
        export(small_model(), tmp_path / "out", "doubled", tasks="forward")
    assert not (tmp_path / "out" / "model.keras").exists()


def test_names_are_taken_once():
    register_task(SentenceSimilarity)
    register_task(SentenceSimilarity)
    for name in ("forward", "similarity", "two words", None):
        with pytest.raises(ValueError, match="`name` must be an identifier other than"):
            register_task(type("Other", (Task,), {"name": name}))


def test_cases_are_unequal():
    model = Transformer(30, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16)
    cases = SentenceSimilarity(model).cases()
    shapes = [tuple(case[name].shape for name in ("first", "second")) for case in cases]
    assert all(len({*first, *second}) == 3 for first, second in shapes[1:])
    assert shapes[0][0][0] == 1
    assert np.unique([len(case["first"]) for case in cases]).size == len(cases)
