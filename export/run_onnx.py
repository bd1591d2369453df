"""Runs an ONNX artefact without keras_attn, Keras or TensorFlow.

    python run_onnx.py generate.onnx "fr mardi 5 mars 2019" "en 3 May 2021"
    python run_onnx.py generate.onnx --cases cases.npz --out out.npz --repeat 20

Needs onnxruntime and numpy, and onnxruntime-extensions for artefacts with a tokenizer. Prints one line per line of
input. A case file holds arrays named `inputs/<case>/<name>`; the output file holds `outputs/<case>/<name>`, and `ms`,
the median time per call on case 0.
"""

import os
import sys

import numpy as np
import onnxruntime
from client import arrays, contains, lines_of, main, texts

DTYPES = {
    "tensor(string)": np.str_,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
DTYPES |= {f"tensor({kind.__name__})": kind for kind in INTEGERS}


class ONNXArtefact:
    """Calls an `.onnx` file with arrays by name. Thread-safe.

    A file has a single task, so `task` is ignored.
    """

    def __init__(self, path, task=None):
        # A folder contains a model and configuration files of other runtimes.
        self.session = _session(os.path.join(path, "model.onnx") if os.path.isdir(path) else path)
        self.inputs = {value.name: DTYPES[value.type] for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.labels = lines_of(metadata.get("labels.txt", ""))

    def __call__(self, inputs):
        given = arrays(inputs, self.inputs)
        values = self.session.run(None, {name: _to_object(value) for name, value in given.items()})
        return {name: _to_str(value) for name, value in zip(self.outputs, values, strict=True)}


def _session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if contains(path, b"ai.onnx.contrib"):
        # Only needed for artefacts with a tokenizer.
        if sys.modules.get("tensorflow") and "onnxruntime_extensions" not in sys.modules:
            raise ImportError(
                "onnxruntime_extensions, which runs the tokenizer, must be imported before TensorFlow: after it, the "
                "process would crash"
            )
        import onnxruntime_extensions

        options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _to_object(value):
    return texts(value, decode=True) if value.dtype.kind in "USO" else value


def _to_str(value):
    return value.astype(np.str_) if value.dtype.kind == "O" else value


if __name__ == "__main__":
    main(ONNXArtefact, "Run an ONNX artefact.")
