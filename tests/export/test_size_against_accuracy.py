"""What quantisation costs is measured weight by weight, and the mix that is exported loses no more than it may."""

import keras
import numpy as np
import pytest

from keras_attn.export import ExportError, export, precisions, quantization_report, verify
from keras_attn.export.quantization.fake_quantization import matrices

WIDTH, CLASSES, ROWS = 64, 17, 71


def make_model(*fragile):
    keras.utils.set_random_seed(3)
    y = x = keras.Input((WIDTH,), name="x")
    for name in ("first", "second"):
        y = keras.layers.Dense(WIDTH, activation="tanh", name=name)(y)
    model = keras.Model(x, keras.layers.Dense(CLASSES, name="third")(y))
    for name in ("first", "second"):
        # The first value that a layer reads is 0, as it is in the data.
        kernel = np.array(model.get_layer(name).kernel)
        kernel[:, 0] = 0
        model.get_layer(name).kernel.assign(kernel)
    for name in fragile:
        # What is multiplied by zero stretches the range of the weights that matter.
        kernel = np.array(model.get_layer(name).kernel)
        kernel[0, 1:] = 300
        model.get_layer(name).kernel.assign(kernel)
    return model


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype("float32")
    x[:, 0] = 0
    return {"x": x}


def answers(model, data):
    """The model is right but for the last five."""
    right = np.argmax(model.predict(data["x"], verbose=0), axis=-1)
    return np.where(np.arange(ROWS) < ROWS - 5, right, (right + 1) % CLASSES)


def test_the_report_names_the_weight_that_suffers(data):
    model = make_model("second")
    before = model.get_weights()
    report = quantization_report(model, "int8", samples=data, references=answers(model, data))
    assert [row["weight"].rpartition("/")[0].split("/")[-1] for row in report.rows] == ["first", "second", "third"]
    by_name = dict(zip(("first", "second", "third"), report.rows, strict=True))
    assert by_name["second"]["drop"] > 0.3 > 0.1 > by_name["first"]["drop"]
    assert by_name["second"]["cosine"] < 0.9 < 0.999 < by_name["first"]["cosine"]
    assert report.drop >= by_name["second"]["drop"] - 0.1
    assert by_name["first"]["snr_db"] > 30
    assert by_name["first"]["relative_error"] == pytest.approx(10 ** (-by_name["first"]["snr_db"] / 20))
    assert "second" in report.table().splitlines()[1]
    for value, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, weight)


@pytest.mark.parametrize(("precision", "bound"), [("float16", 3e-4), ("int8", 0.01), ("int4", 0.12)])
def test_rounding_comes_as_near_as_its_bits_allow(precision, bound):
    for matrix in matrices(make_model(), precision):
        value = np.array(matrix.variable)
        error = np.linalg.norm(matrix.rounded(precision, 127) - value) / np.linalg.norm(value)
        assert bound / 20 < error < bound


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_the_mix_stays_inside_the_drop(format, data, tmp_path):
    model = make_model("second")
    arguments = {"tasks": "forward", "samples": data, "references": answers(model, data)}
    [row] = export(model, tmp_path, format, precision="int8", max_accuracy_drop=0.03, **arguments).rows
    assert [path.split("/")[-2] for path in row["keep_float"]] == ["second"]
    assert row["model_accuracy"] == pytest.approx((ROWS - 5) / ROWS)
    assert row["model_accuracy"] - 0.03 <= row["accuracy"]
    [whole] = export(model, tmp_path, format, **arguments).rows
    assert 0.4 * whole["bytes"] < row["bytes"] < 0.8 * whole["bytes"]
    assert whole["accuracy"] == whole["model_accuracy"]
    assert [row["accuracy"] for row in verify(tmp_path).rows] == [row["accuracy"], whole["accuracy"]]


def test_without_answers_the_model_is_the_measure(data, tmp_path):
    model = make_model("first")
    [row] = export(
        model, tmp_path, "onnx", tasks="forward", precision="int8", samples=data, max_accuracy_drop=0.05
    ).rows
    assert [path.split("/")[-2] for path in row["keep_float"]] == ["first"]
    assert row["accuracy"] is None
    assert row["identical"] >= 0.95 * row["total"] == pytest.approx(0.95 * ROWS, abs=1)


def test_no_mix_is_near_enough(data, tmp_path):
    model = make_model("first", "second", "third")
    with pytest.raises(ExportError, match=r"onnx: no combination of int8 and float32 weights loses at most 1.00%"):
        export(model, tmp_path / "out", "onnx", tasks="forward", precision="int8", samples=data, max_accuracy_drop=0.01)
    assert not (tmp_path / "out").exists()


def test_a_precision_that_keeps_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setitem(precisions.TABLE, "int8_full", precisions.Precision("int8_full"))
    model = make_model("first")
    message = r"loses .* of agreement with the model, more than 1.00%; tflite in int8_full cannot keep weights"
    with pytest.raises(ExportError, match=message):
        export(
            model,
            tmp_path / "out",
            "tflite",
            tasks="forward",
            precision="int8_full",
            samples=data,
            max_accuracy_drop=0.01,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_accuracy_drop": 1}, r"`max_accuracy_drop` must be a number in \[0, 1\)"),
        ({"references": [1]}, "`references` must be given together with their `samples`"),
        ({"samples": {"y": np.zeros((3, WIDTH))}}, r"`samples` must be a dict of arrays \['x'\]"),
        ({"samples": {"x": np.zeros((0, WIDTH))}}, "`samples` must hold arrays of equally many rows"),
        (
            {"samples": {"x": np.zeros((3, WIDTH))}, "references": [1, 2]},
            "`references` must hold one answer per",
        ),
        ({"samples": {"x": np.zeros((1, WIDTH))}, "references": [0.5]}, "`references` must be strings or class ids"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(make_model(), tmp_path / "out", "onnx", tasks="forward", **arguments)
    assert not (tmp_path / "out").exists()
