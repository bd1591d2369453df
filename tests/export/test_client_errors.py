"""What the clients of artefacts say of input that the model cannot take."""

import keras
import numpy as np
import pytest
from training_processes import run_script

from keras_attn.export import export
from keras_attn.export.verification import clients
from keras_attn.layers import LogMelSpectrogram

CODE = """
import sys
import numpy as np

sys.path.insert(0, sys.argv[1])
from run_tflite import TFLiteArtefact

artefact = TFLiteArtefact(sys.argv[2], "forward")
print(artefact({"samples": np.zeros((2, 900), "float32")})["logits"].shape)
for shape in ((2,), (1, 900, 1), (1, 3)):
    try:
        artefact({"samples": np.zeros(shape, "float32")})
    except ValueError as error:
        print(error)
"""
NAMES = """
import sys
import numpy as np

sys.path.insert(0, sys.argv[1])
module, kind, path = sys.argv[2:]
artefact = getattr(__import__(module), kind)(path, "forward")
# A list becomes an array of the type that the artefact takes.
print(next(iter(artefact({"x": [[1, 2], [3, 4]]}).values())).tolist())
try:
    artefact({"y": np.ones((1, 2), "float32")})
except ValueError as error:
    print(error)
"""
AFTER_TENSORFLOW = """
import sys
import tensorflow

sys.path.insert(0, sys.argv[1])
from run_onnx import ONNXArtefact

try:
    ONNXArtefact(sys.argv[2])
except ImportError as error:
    print(error)
"""


def test_shapes_that_a_tflite_file_cannot_take(tmp_path):
    x = keras.Input((None,), name="samples")
    y = LogMelSpectrogram(8000, 20, 200, 80, framing="kaldi")(x)
    y = keras.layers.Conv1D(4, 3, name="logits")(y)
    export(keras.Model(x, y), tmp_path, "tflite", tasks="forward", samples={"samples": keras.random.normal((4, 900))})
    process = run_script(CODE, clients.script("tflite").parent, tmp_path / "model.tflite")
    assert process.returncode == 0, process.stderr
    shape = "'samples' must have the shape (-1, -1), where -1 is any size. Received:"
    size = "The inputs must have sizes that the model can take; a recording must be as long as its windows. Received:"
    assert process.stdout.splitlines() == [
        "(2, 7, 4)",
        f"{shape} (2,)",
        f"{shape} (1, 900, 1)",
        f"{size} shapes {{'samples': (1, 3)}}",
    ]


@pytest.mark.parametrize(
    ("format_name", "kind", "file"),
    [
        ("saved_model", "SavedModelArtefact", "saved_model"),
        ("tflite", "TFLiteArtefact", "model.tflite"),
        ("onnx", "ONNXArtefact", "forward.onnx"),
    ],
)
def test_inputs_are_known_by_name(format_name, kind, file, tmp_path):
    x = keras.Input((2,), name="x")
    model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="ones", name="sum")(x))
    export(model, tmp_path, format_name, tasks="forward", samples={"x": np.ones((4, 2), "float32")})
    script = clients.script(format_name)
    process = run_script(NAMES, script.parent, script.stem, kind, tmp_path / file)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["[[3.0], [7.0]]", "The inputs must be named ['x']. Received: ['y']"]


def test_a_tokenizer_of_onnx_is_not_loaded_after_tensorflow(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"ai.onnx.contrib")
    process = run_script(AFTER_TENSORFLOW, clients.script("onnx").parent, tmp_path / "model.onnx")
    assert process.returncode == 0, process.stderr
    assert "onnxruntime_extensions, which runs the tokenizer, must be imported before TensorFlow" in process.stdout
