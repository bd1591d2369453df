"""What the clients of artefacts say of input that the model cannot take."""

import keras
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


def test_a_tokenizer_of_onnx_is_not_loaded_after_tensorflow(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"ai.onnx.contrib")
    process = run_script(AFTER_TENSORFLOW, clients.script("onnx").parent, tmp_path / "model.onnx")
    assert process.returncode == 0, process.stderr
    assert "onnxruntime_extensions, which runs the tokenizer, must be imported before TensorFlow" in process.stdout
