"""A disk that fills up ends an export in one clear error, with nothing of it left."""

import json
import subprocess
import sys

import pytest

# In a mount namespace of its own: a disk that holds all but the weights.
SCRIPT = """
mount -t tmpfs -o size=300k tmpfs "$1" && mkdir "$2/tmp" && TMPDIR="$2/tmp" exec "$3" -c "$4" "$1" "$2/tmp"
"""
CODE = """
import json, os, sys
import keras
from keras_attn.export import ExportError, export

x = keras.Input((300,), name="x")
model = keras.Model(x, keras.layers.Dense(300)(x))
found = {}
for format in ("onnx", "tflite", "saved_model"):
    try:
        export(model, sys.argv[1] + "/out", format, tasks="forward")
    except ExportError as error:
        # TensorFlow keeps the source of what it traced, and its bytecode, until the process ends.
        temporary = [name for name in os.listdir(sys.argv[2]) if not name.startswith("__")]
        found[format] = [str(error), os.listdir(sys.argv[1]), temporary]
print(json.dumps(found))
"""


def test_a_full_disk(tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("this system does not let a user mount a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", disk, tmp_path, sys.executable, CODE]
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    assert sorted(found) == ["onnx", "saved_model", "tflite"]
    for message, on_disk, temporary in found.values():
        assert message == f"{disk / 'out'} could not be written: No space left on device"
        assert on_disk == []
        assert temporary == []
