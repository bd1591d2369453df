"""What Keras models may hold is exported, or refused in words that say the way out."""

import os

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_attn.export import ExportError, export, labelled_data, registry


def dense(name="x", outputs=None):
    x = keras.Input((3,), name=name)
    y = layers.Dense(3, name="dense")(x)
    return keras.Model(x, y if outputs is None else outputs(x, y))


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_tensors_that_come_out_twice_or_as_they_came(format, tmp_path):
    model = dense(outputs=lambda x, y: [y, x, y])
    export(model, tmp_path, format, tasks="forward")
    with np.load(tmp_path / "verification" / "forward.npz", allow_pickle=False) as stored:
        assert [name for name in stored.files if "outputs/0" in name] == [
            f"outputs/0/{name}" for name in ("dense", "x_output", "dense_output")
        ]


@pytest.mark.parametrize("name", ["1x", "_x", "my input", "self", "class", "é"])
def test_names_that_a_signature_cannot_have(name, tmp_path):
    with pytest.raises(ValueError, match=rf"inputs whose names .* as saved_model .* Received: '{name}'"):
        export(dense(name), tmp_path / "out", "saved_model", tasks="forward")


def test_dots_and_dashes_are_underscores_to_a_signature(tmp_path):
    left, right = keras.Input((3,), name="a.b"), keras.Input((3,), name="c-d")
    assert export(keras.Model([left, right], left - 2.0 * right), tmp_path, "saved_model", tasks="forward").ok
    right = keras.Input((3,), name="a_b")
    with pytest.raises(ValueError, match=r"Received: 'a.b' among \['a.b', 'a_b'\]"):
        export(keras.Model([left, right], left - right), tmp_path / "out", "tflite", tasks="forward")


def test_onnx_has_any_names(tmp_path):
    names = ["self", "a.b", "a_b", "my input"]
    inputs = [keras.Input((3,), name=name) for name in names]
    model = keras.Model(inputs, ops.sum(ops.stack([i * x for i, x in enumerate(inputs, 1)]), axis=0))
    [row] = export(model, tmp_path, "onnx", tasks="forward").rows
    assert row["ok"]
    with pytest.raises(ValueError, match=r"must not have outputs with the names of inputs.* in onnx; .* Received: 'x'"):
        export(dense(outputs=lambda x, y: {"x": y}), tmp_path / "out", "onnx", tasks="forward")


def test_capitals_in_names(tmp_path):
    left, right = keras.Input((3,), name="Image"), keras.Input((3,), name="image")
    model = keras.Model([left, right], {"Y": left - 2.0 * right, "y": right * 3.0})
    assert export(model, tmp_path, "onnx", tasks="forward").ok
    for format in ("saved_model", "tflite"):
        with pytest.raises(ValueError, match=r"ignores case; .* Received: 'Image' among"):
            export(model, tmp_path / "out", format, tasks="forward")
    with pytest.raises(ValueError, match=r"named outputs, as onnx .* Received: ''"):
        export(dense(outputs=lambda x, y: {"": y}), tmp_path / "out", "onnx", tasks="forward")


def test_constants_that_are_no_weights_reach_onnx(tmp_path):
    scaled = layers.Normalization()
    scaled.adapt(np.arange(12.0).reshape(4, 3))
    x = keras.Input((3,), name="x")
    assert export(keras.Model(x, layers.Dense(2)(scaled(x))), tmp_path, "onnx", tasks="forward").ok


def test_small_numbers_reach_onnx(tmp_path):
    dtypes = ["uint8", "int8", "int16", "float16", "bool"]
    inputs = [keras.Input((3,), dtype=dtype, name=dtype) for dtype in dtypes]
    x = ops.concatenate([ops.cast(x, "float32") / 99.0 for x in inputs])
    model = keras.Model(inputs, {"sum": layers.Dense(2)(x), "half": ops.cast(x, "float16"), "mask": x > 0})
    assert export(model, tmp_path, "onnx", tasks="forward").ok
    with np.load(tmp_path / "verification" / "forward.npz", allow_pickle=False) as stored:
        assert [stored[f"inputs/0/{dtype}"].dtype.name for dtype in dtypes] == dtypes
        assert max(stored[f"inputs/{case}/uint8"].max() for case in range(3)) > 100


def test_strings_go_into_a_saved_model(tmp_path):
    text = keras.Input((1,), dtype="string", name="text")
    ids = layers.TextVectorization(vocabulary=["a", "mat"], output_sequence_length=4)(text)
    model = keras.Model(text, [layers.Dense(2)(layers.Embedding(4, 3)(ids)), text])
    samples = {"text": np.array([["a mat"], ["日本"], ["b a"]])}
    assert export(model, tmp_path, "saved_model", tasks="forward", samples=samples).ok
    for format in ("onnx", "tflite"):
        with pytest.raises(ValueError, match="`format` must be 'saved_model' for a model with string inputs"):
            export(model, tmp_path / "out", format, tasks="forward")


def test_what_a_format_lacks_says_the_way_out(tmp_path):
    x = keras.Input((None, 3), name="x")
    recurrent = keras.Model(x, layers.SimpleRNN(2)(x))
    with pytest.raises(ExportError, match=r"tflite: .*`shapes=\{'batch': 1\}`, or use `keras_attn.layers.Recurrence`"):
        export(recurrent, tmp_path, "tflite", tasks="forward")
    ids = keras.Input((2,), dtype="int64", name="ids")
    looked_up = keras.Model(ids, layers.IntegerLookup(vocabulary=[3, 5])(ids))
    with pytest.raises(ExportError, match=r"onnx does not support Keras' lookup layers; use `format='saved_model'`"):
        export(looked_up, tmp_path, "onnx", tasks="forward")
    hashed = keras.Model(ids, layers.Hashing(5)(ids))
    for format in ("onnx", "tflite"):
        with pytest.raises(ExportError, match=r"lacks: .*StringToHashBucketFast; use `format='saved_model'`"):
            export(hashed, tmp_path, format, tasks="forward")
    quantized = dense()
    quantized.quantize("int8")
    with pytest.raises(ExportError, match="after `quantize`; export the unquantised model"):
        export(quantized, tmp_path, "tflite", tasks="forward")
    assert os.listdir(tmp_path) == []


def test_an_axis_of_size_zero_says_the_way_out(tmp_path):
    model = dense(outputs=lambda x, y: {"dense": y, "nothing": x[:, :0]})
    with pytest.raises(ExportError, match=r"tflite may not support the axes of size 0 of nothing: remove them"):
        export(model, tmp_path, "tflite", tasks="forward")


@pytest.mark.parametrize(
    ("dtype", "rows", "message"),
    [
        ("uint8", [[300]], r"must hold integers of uint8. Received: \[300\]"),
        ("int32", [[0.5]], r"must hold integers of int32. Received: \[0.5\]"),
        ("int32", [["a"]], r"must be of dtype int32. Received: str"),
        ("string", [[1]], r"must be of dtype string. Received: int64"),
    ],
)
def test_samples_that_an_input_cannot_hold(dtype, rows, message):
    x = keras.Input((1,), dtype=dtype, name="x")
    task = registry.load("tasks", "forward")(keras.Model(x, x))
    with pytest.raises(ValueError, match=message):
        labelled_data.cases(task, {"x": np.array(rows)})


def test_operators_that_onnx_says_in_two(tmp_path):
    x = keras.Input((None, 3), name="x")
    model = keras.Model(x, keras.ops.log1p(keras.ops.abs(x)) + keras.ops.expm1(x))
    assert export(model, tmp_path, "onnx", tasks="forward").ok
