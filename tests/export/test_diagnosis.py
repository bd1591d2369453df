"""An artefact that differs is refused by the name of the layer that is the first to be wrong."""

import os

import keras
import numpy as np
import pytest

from keras_attn import GenerationConfig, LanguageModel
from keras_attn.export import ExportError, export
from keras_attn.export.formats.onnx import graphs
from keras_attn.export.formats.onnx import writer as onnx_writer
from keras_attn.export.formats.tflite import writer as tflite_writer


@pytest.fixture(scope="module")
def chain():
    keras.utils.set_random_seed(5)
    x = keras.Input((None, 5), name="x")
    y = keras.layers.Dense(7, activation="relu", name="first")(x)
    y = keras.layers.Dense(11, activation="relu", name="second")(y)
    return keras.Model(x, keras.layers.Dense(3, name="third")(y))


def spoil(monkeypatch, format, variable, factor=1.5):
    """From now on, a format's artefacts hold another matrix in place of a variable."""
    if format == "tflite":
        write = tflite_writer.FormatWriter.write

        def altered_write(self, converted, folder, *args):
            write(self, converted, folder, *args)
            path = folder / self.path("forward", "float32")
            matrix = np.ascontiguousarray(np.reshape(variable, (variable.shape[0], -1)).T)
            content = path.read_bytes()
            assert matrix.tobytes() in content
            path.write_bytes(content.replace(matrix.tobytes(), (matrix * np.float32(factor)).tobytes()))

        monkeypatch.setattr(tflite_writer.FormatWriter, "write", altered_write)
        return
    convert = onnx_writer.FormatWriter.convert

    def altered_convert(self, tasks, workspace):
        from onnx import numpy_helper

        converted = convert(self, tasks, workspace)
        for _, model, _ in converted:
            names = graphs.of_variables(model, [variable])
            assert names
            for name in names:
                tensor = graphs.constants(model)[name]
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
        return converted

    monkeypatch.setattr(onnx_writer.FormatWriter, "convert", altered_convert)


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_the_layer_is_named(format, chain, tmp_path, monkeypatch):
    spoil(monkeypatch, format, chain.get_layer("second").kernel)
    with pytest.raises(ExportError, match=r"logits of case 0 differs by .*; first output of layer '.*second'") as error:
        export(chain, tmp_path / "out", format, tasks="forward")
    assert "second" in error.value.report.rows[-1]["first"]
    assert os.listdir(tmp_path) == []


def test_not_a_number(chain, tmp_path, monkeypatch):
    spoil(monkeypatch, "onnx", chain.get_layer("third").kernel, factor=np.nan)
    message = r"logits of case 0 holds NaN.*; first output of layer '.*third' holds NaN"
    with pytest.raises(ExportError, match=message):
        export(chain, tmp_path / "out", "onnx", tasks="forward")


def test_a_layer_inside_others_and_a_loop(tmp_path, monkeypatch):
    keras.utils.set_random_seed(5)
    sizes = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 12}
    model = LanguageModel(23, **sizes, generation_config=GenerationConfig(3, end_id=1))
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
    [kernel] = [v for v in model.variables if len(v.shape) == 2 and v.shape[0] == 12][1:]
    spoil(monkeypatch, "onnx", kernel, factor=3)
    with pytest.raises(ExportError) as error:
        export(model, tmp_path / "out", "onnx", tasks="generate")
    assert repr(kernel.path.rpartition("/")[0]) in str(error.value)
