"""Runs a TensorFlow Lite artefact without keras_attn and without Keras.

    python run_tflite.py model.tflite "fr mardi 5 mars 2019" "en 3 May 2021"
    python run_tflite.py model.tflite --task generate --cases cases.npz --out out.npz --repeat 20

Needs ai-edge-litert and numpy, and tensorflow-text for artefacts with a tokenizer. Prints one line per line of input. A
case file holds arrays named `inputs/<case>/<name>`; the output file holds `outputs/<case>/<name>`, and `ms`, the median
time per call on case 0.
"""

import threading
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps
from client import arrays, contains, lines_of, main, texts


class TFLiteArtefact:
    """Calls one signature of a `.tflite` file with arrays by name. Thread-safe.

    Each thread has its own interpreter, since an interpreter holds the tensors of one call. Its memory, for activations
    and prepacked weights, is freed when the thread ends, so a server should use a few long-lived threads.

    A new interpreter is created whenever the input shapes change: after a resize, loops run by XNNPACK may write to
    their old addresses, where another tensor may be now.
    """

    def __init__(self, path, task=None):
        self.path, self.local = path, threading.local()

        interpreter = _interpreter(path)
        names = sorted(interpreter.get_signature_list())
        self.task = task or ("generate" if "generate" in names else names[0])
        if self.task not in names:
            raise ValueError(f"{path} has no task {task!r}, only {names}")
        details = interpreter.get_signature_runner(self.task).get_input_details()
        self.inputs = {name: detail["dtype"] for name, detail in details.items()}
        self.shapes = {name: tuple(detail["shape_signature"].tolist()) for name, detail in details.items()}
        self.labels = _labels(path)

    def __call__(self, inputs):
        inputs = arrays(inputs, self.inputs)
        shapes = {name: value.shape for name, value in inputs.items()}
        for name, shape in shapes.items():
            if not _fits(shape, self.shapes.get(name, shape)):
                raise ValueError(
                    f"{name!r} must have the shape {self.shapes[name]}, where -1 is any size. Received: {shape}"
                )
        runner = self._runner(shapes)
        try:
            outputs = runner(**{name: _to_object(value) for name, value in inputs.items()})
        except RuntimeError as error:
            if "failed to prepare" in str(error) or "failed to reshape" in str(error):
                raise ValueError(
                    "The inputs must have sizes that the model can take; a recording must be as long as its windows. "
                    f"Received: shapes {shapes}"
                ) from error
            if "gather index out of bounds" not in str(error):
                raise
            raise ValueError(
                "The input must fit the position and vocabulary sizes of the model. Received: more tokens than the "
                "model has positions, or an id that is not in its vocabulary"
            ) from error
        return {name: _to_str(value) for name, value in outputs.items()}

    def _runner(self, shapes):
        """The signature runner of this thread for inputs of these shapes."""
        local = self.local
        if getattr(local, "shapes", None) != shapes:
            local.runner = _interpreter(self.path).get_signature_runner(self.task)
            local.shapes = shapes
        return local.runner


def _interpreter(path):
    if not contains(path, b"TFText>"):
        return Interpreter(model_path=path)
    import tensorflow_text

    registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
    return InterpreterWithCustomOps(custom_op_registerers=registerers, model_path=path)


def _labels(path):
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as files:
        return lines_of(files.read("labels.txt").decode()) if "labels.txt" in files.namelist() else []


def _fits(shape, wanted):
    # A scalar and an unknown rank have the same signature, ().
    return not wanted or (len(shape) == len(wanted) and all(y in (-1, x) for x, y in zip(shape, wanted, strict=True)))


def _to_object(value):
    return texts(value) if value.dtype.kind in "USO" else value


def _to_str(value):
    return np.char.decode(value.astype(np.bytes_), "utf-8") if value.dtype.kind in "OS" else value


if __name__ == "__main__":
    main(TFLiteArtefact, "Run a TensorFlow Lite artefact.")
