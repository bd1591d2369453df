"""One client that threads share gives each of them its own answers."""

from pathlib import Path

import keras
import pytest
from training_processes import run_script

from keras_attn.export import export
from keras_attn.export.verification import clients

ARTEFACTS = {"saved_model": "saved_model", "tflite": "model.tflite", "onnx": "forward.onnx"}
# In a process of its own, which a runtime may crash.
CODE = """
import importlib, sys, threading
import numpy as np

module, artefact_class, path = sys.argv[1:4]
artefact = getattr(importlib.import_module(module), artefact_class)(path, "forward")
random = np.random.default_rng(0)
cases = [{"x": random.normal(size=(rows, length, 16)).astype("float32")} for rows in (1, 3) for length in (20, 80)]
expected = [artefact(case)["logits"] for case in cases]
wrong, right = [], []

def call(seed):
    for index in np.random.default_rng(seed).integers(0, len(cases), 100):
        same = np.array_equal(artefact(cases[index])["logits"], expected[index])
        (right if same else wrong).append(index)

threads = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(right), len(wrong))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    keras.utils.set_random_seed(3)
    x = y = keras.Input((None, 16), name="x")
    for width in (128, 256, 128, 16):
        y = keras.layers.Dense(width, activation="gelu")(y)
    path = tmp_path_factory.mktemp("threads")
    export(keras.Model(x, y), path, list(ARTEFACTS), tasks="forward")
    return path


@pytest.mark.parametrize(
    ("format", "name"), [("saved_model", "SavedModelArtefact"), ("tflite", "TFLiteArtefact"), ("onnx", "ONNXArtefact")]
)
def test_eight_threads(format, name, folder):
    script = Path(clients.script(format))
    code = f"import sys; sys.path.insert(0, {str(script.parent)!r})\n{CODE}"
    process = run_script(code, script.stem, name, folder / ARTEFACTS[format])
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["800", "0"]
