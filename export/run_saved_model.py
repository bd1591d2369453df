"""Runs a SavedModel artefact without keras_attn and without Keras.

    python run_saved_model.py saved_model "fr mardi 5 mars 2019" "en 3 May 2021"
    python run_saved_model.py saved_model --task generate --cases cases.npz --out out.npz --repeat 20

Needs tensorflow and numpy, and tensorflow-text for artefacts with a tokenizer. Prints one line per line of input. A
case file holds arrays named `inputs/<case>/<name>`; the output file holds `outputs/<case>/<name>`, and `ms`, the median
time per call on case 0.
"""

import functools
import os
import re
from pathlib import Path

import numpy as np
from client import arrays, lines_of, main, texts

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf


class SavedModelArtefact:
    """Calls one signature of a SavedModel folder with arrays by name. Thread-safe."""

    def __init__(self, path, task=None):
        self.model = _load(path)
        task = task or "serving_default"
        if task not in self.model.signatures:
            raise ValueError(f"{path} has no task {task!r}, only {sorted(self.model.signatures)}")
        self.signature = self.model.signatures[task]
        specs = self.signature.structured_input_signature[1]
        self.inputs = {name: spec.dtype.as_numpy_dtype for name, spec in specs.items()}
        self.ranks = {name: spec.shape.rank for name, spec in specs.items()}
        labels = Path(path, "assets.extra", "labels.txt")
        self.labels = lines_of(labels.read_text(encoding="utf-8")) if labels.is_file() else []

    def __call__(self, inputs):
        # TensorFlow gives the parameter of an input `a.b` the name `a_b`.
        given = arrays({re.sub("[.-]", "_", name): value for name, value in inputs.items()}, self.inputs)
        outputs = self.signature(**{name: tf.constant(_to_object(value)) for name, value in given.items()})
        return {name: _to_str(value.numpy()) for name, value in outputs.items()}


@functools.cache
def _load(path):
    try:
        return tf.saved_model.load(path)
    except (RuntimeError, tf.errors.NotFoundError) as error:
        if "type not registered" not in str(error):
            raise
    import tensorflow_text  # noqa: F401  (registers the operators of its tokenizers)

    return tf.saved_model.load(path)


def _to_object(value):
    # TensorFlow accepts empty arrays.
    return texts(value) if value.dtype.kind in "USO" and value.size else value


def _to_str(value):
    return np.char.decode(value.astype(np.bytes_), "utf-8", "replace") if value.dtype.kind in "OS" else value


if __name__ == "__main__":
    main(SavedModelArtefact, "Run a SavedModel artefact.")
