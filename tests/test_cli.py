"""The command reports on stdout, complains in one line on stderr, and tells apart what went wrong by its status."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_attn import cli


@pytest.fixture
def saved(tmp_path):
    x = keras.Input((None, 3), name="x")
    keras.Model(x, keras.layers.Dense(2)(x)).save(tmp_path / "model.keras")
    return tmp_path


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_export_and_verify(saved, capsys):
    status, out, err = run(capsys, "export", saved / "model.keras", "--format", "tflite,onnx", "--out", saved / "out")
    assert (status, err) == (0, "")
    assert [line.split()[::2][:2] for line in out.splitlines()[1:]] == [["tflite", "forward"], ["onnx", "forward"]]

    status, out, err = run(capsys, "verify", saved / "out", "--json")
    assert (status, err) == (0, "")
    assert [row["ok"] for row in json.loads(out)["artefacts"]] == [True, True]

    artefact = saved / "out" / "model.tflite"
    artefact.write_bytes(artefact.read_bytes()[:-1] + b"!")
    status, out, err = run(capsys, "verify", saved / "out")
    assert status == 1
    assert "NO" in out.splitlines()[1]
    assert err.count("\n") == 1
    assert "model.tflite" in err


def test_quantize_tells_what_each_weight_costs(saved, capsys):
    x = keras.Input((64,), name="x")
    model = keras.Model(x, keras.layers.Dense(17, name="label")(keras.layers.Dense(64, name="hidden")(x)))
    model.save(saved / "wide.keras")
    inputs = np.random.default_rng(0).normal(size=(30, 64)).astype("float32")
    right = np.argmax(model.predict(inputs, verbose=0), axis=-1)
    np.savez(saved / "data.npz", x=inputs, references=right)
    command = ["quantize", saved / "wide.keras", "--format", "onnx", "--out", saved / "out"]
    command += ["--data", saved / "data.npz", "--max-accuracy-drop", "0.2"]
    status, out, err = run(capsys, *command, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    [row] = found["artefacts"]
    assert (row["precision"], row["keep_float"], row["model_accuracy"]) == ("int8", [], 1.0)
    [weights] = found["quantization"]
    assert [row["weight"].split("/")[-2] for row in weights["weights"]] == ["hidden", "label"]
    assert all(30 < row["snr_db"] < 60 for row in weights["weights"])
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert {"onnx, int8:", "all of them"} <= {line.split("  ")[0] for line in out.splitlines()}


def test_inspect(saved, capsys):
    assert run(capsys, "export", saved / "model.keras", "--format", "tflite,onnx", "--out", saved / "out")[0] == 0
    status, out, err = run(capsys, "inspect", saved / "out", "--json")
    assert (status, err) == (0, "")
    tflite, onnx = json.loads(out)["files"]
    assert (tflite["format"], onnx["format"], onnx["precision"]) == ("tflite", "onnx", "float32")
    assert tflite["digest"] == onnx["digest"] == "as exported"
    assert tflite["operators"]["FULLY_CONNECTED"] == onnx["operators"]["MatMul"] == 1
    assert tflite["signatures"]["forward"]["inputs"] == [{"name": "x", "shape": [-1, -1, 3], "dtype": "float32"}]
    [logits] = onnx["signatures"]["forward"]["outputs"]
    assert (logits["name"], logits["shape"][::2], logits["dtype"]) == ("logits", ["batch", 2], "float32")
    assert any(weight["bytes"] == 24 for weight in tflite["weights"])
    assert any(weight["bytes"] == 24 for weight in onnx["weights"])

    status, out, err = run(capsys, "inspect", saved / "model.keras")
    assert (status, err) == (0, "")
    assert "call <- x float32 (None, None, 3)" in out

    artefact = saved / "out" / "forward.onnx"
    artefact.write_bytes(artefact.read_bytes() + b"!")
    status, out, err = run(capsys, "inspect", artefact)
    assert (status, err) == (0, "")
    assert "forward.onnx has changed since it was exported" in out


def test_a_model_that_the_format_lacks(saved, capsys):
    x = keras.Input((3,), name="x")
    keras.Model(x, keras.ops.erf(x)).save(saved / "erf.keras")
    status, out, err = run(capsys, "export", saved / "erf.keras", "--format", "tflite", "--out", saved / "out")
    assert (status, out) == (1, "")
    assert err.startswith("keras-attn: tflite: forward")
    assert not (saved / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "missing.keras"], "missing.keras"),
        (["export", "text.keras"], "text.keras"),
        (["export", "cut.keras"], "cut.keras"),
        (["export", "model.keras", "--format", "coreml"], "coreml"),
        (["export", "model.keras", "--task", "generate"], "generation_config"),
        (["export", "model.keras", "--shapes", "rows=2"], "`shapes` must give ['batch'"),
        (["export", "model.keras", "--data", "missing.txt"], "missing.txt"),
        (["export", "model.keras", "--data", "ragged.tsv"], "ragged.tsv must hold a string a line"),
        (["quantize", "model.keras", "--max-accuracy-drop", "2"], "max_accuracy_drop"),
        (["inspect", "text.keras"], "`path` must be a .keras file"),
        (["inspect", "cut.keras"], "cut.keras"),
        (["export", "model.keras", "--out", "text.keras"], "text.keras"),
        (["verify", "out"], "manifest.json"),
    ],
)
def test_bad_input(arguments, message, saved, capsys, monkeypatch):
    monkeypatch.chdir(saved)
    (saved / "text.keras").write_text("not a model")
    (saved / "ragged.tsv").write_text("a\tb\nc\n")
    content = (saved / "model.keras").read_bytes()
    # The directory of the archive is whole, a file in it is not.
    (saved / "cut.keras").write_bytes(content[:40] + bytes(200) + content[240:])
    if arguments[0] in ("export", "quantize"):
        arguments = [*arguments, *(() if "--format" in arguments else ("--format", "tflite"))]
        arguments = [*arguments, *(() if "--out" in arguments else ("--out", "out"))]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not (saved / "out").exists()


def test_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export"])
    assert stopped.value.code == 2


def test_as_a_command(saved):
    command = [sys.executable, "-m", "keras_attn.cli", "verify", str(saved)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith("keras-attn: `path`")
    assert "Traceback" not in process.stderr
