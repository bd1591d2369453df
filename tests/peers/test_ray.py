"""Ray Train drives the Trainer, and starts a group of workers again of which one was killed."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("ray", reason="needs ray, which weighs more than all other peers: pip install 'keras_attn[ray]'")

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_on_ray.py"


def test_a_kill_changes_no_weight(tmp_path):
    weights = []
    for name, arguments in (("whole", []), ("killed", ["--kill", "15"])):
        out = tmp_path / name
        command = [sys.executable, EXAMPLE, "--out", out, "--steps", "20", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        assert (out / "killed").exists() == bool(arguments)
        weights.append(keras.models.load_model(out / "model.keras", compile=False).get_weights())
    for whole, killed in zip(*weights, strict=True):
        np.testing.assert_array_equal(whole, killed)
