"""The command reports on stdout, complains in one line on stderr, and tells apart what went wrong by its status."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_attn
from keras_attn import EncoderModel, cli
from keras_attn.export import registry
from keras_attn.generation import BeamSearch
from keras_attn.text import CharacterTokenizer
from keras_attn.training import MaskedCrossEntropy


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


CHECKPOINT = Path(__file__).parent / "fixtures" / "pretrained" / "BertForSequenceClassification"


def test_import_of_a_checkpoint(tmp_path, capsys):
    assert cli.main(["import", str(CHECKPOINT), str(tmp_path / "model.keras")]) == 0
    out = capsys.readouterr().out
    assert "EncoderModel for sequence_classification" in out
    assert "it reads ids, without a tokenizer" in out
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    model = keras.models.load_model(tmp_path / "model.keras")
    ids = np.array([[5, 6, 7]])
    np.testing.assert_array_equal(model(ids), keras_attn.from_pretrained(CHECKPOINT)(ids))
    assert cli.main(["import", str(CHECKPOINT), str(tmp_path / "model.h5")]) == 2
    assert cli.main(["import", str(tmp_path), str(tmp_path / "other.keras")]) == 2
    assert "must contain config.json" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path, capsys):
    status, _, err = run(capsys, "export", tmp_path / "none", "--format", "tflite", "--out", tmp_path / "out")
    assert status == 2
    assert "must be a .keras file, or a folder with a Hugging Face checkpoint. Received: " in err
    assert "none, which does not exist" in err


def test_export_of_a_checkpoint(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [str(CHECKPOINT), "--format", "tflite", "--task", "classify", "--ids", "--out", str(out)]
    assert cli.main(["export", *arguments]) == 0
    assert len(list(out.rglob("*.tflite"))) == 1


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


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


def save_damaged_arrays(folder):
    np.savez(folder / "whole.npz", x=np.ones((2, 1, 3)))
    content = (folder / "whole.npz").read_bytes()
    (folder / "cut.npz").write_bytes(content[:90])
    (folder / "damaged.npz").write_bytes(content.replace(bytes(np.ones(3)), bytes(24)))
    np.savez(folder / "objects.npz", x=np.array([{}, 1], dtype=object))
    with open(folder / "array.npz", "wb") as file:
        np.save(file, np.ones((2, 1, 3)))


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
        (["export", "model.keras", "--data", "ragged.tsv"], "ragged.tsv must have one string per line"),
        (["export", "model.keras", "--data", "cut.npz"], "cut.npz must be a whole .npz file"),
        (["export", "model.keras", "--data", "damaged.npz"], "damaged.npz must be a whole .npz file"),
        (["export", "model.keras", "--data", "objects.npz"], "objects.npz must be a whole .npz file"),
        (["export", "model.keras", "--data", "array.npz"], "array.npz must be a whole .npz file"),
        (["export", "model.keras", "--labels", "latin.txt"], "latin.txt must be text in UTF-8"),
        (["export", "custom.keras"], "it needs the class 'Unregistered', which is not imported here"),
        (["inspect", "custom.keras"], "it needs the class 'Unregistered', which is not imported here"),
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
    (saved / "latin.txt").write_bytes("é\nü\n".encode("latin-1"))
    save_damaged_arrays(saved)
    x = keras.Input((3,), name="x")
    keras.Model(x, Unregistered()(x)).save(saved / "custom.keras")
    if arguments[0] in ("export", "quantize"):
        arguments = [*arguments, *(() if "--format" in arguments else ("--format", "tflite"))]
        arguments = [*arguments, *(() if "--out" in arguments else ("--out", "out"))]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not (saved / "out").exists()


TEXT = "5\u2028May\x85\x1c\rx"


def test_data_and_labels_are_lines(tmp_path, capsys):
    def write(name, *lines):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, ""]).encode())
        return tmp_path / name

    assert cli._data(str(write("a.txt", TEXT, "6")), False) == ([TEXT, "6"], None)
    assert cli._data(str(write("a.tsv", f"{TEXT}\ta ", "6\tb")), False) == ([TEXT, "6"], ["a ", "b"])
    tokenizer = CharacterTokenizer("abc ")
    sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}
    settings = {"head": "sequence_classification", "num_classes": 2, "tokenizer": tokenizer}
    model = EncoderModel(tokenizer.vocabulary_size, **sizes, **settings)
    model.save(tmp_path / "model.keras")
    names = [f"good{TEXT[:-2]}", "bad"]
    right = [names[i] for i in np.argmax(model.predict(tokenizer.encode(["ab", "c a"]), verbose=0), axis=-1)]
    data = write("data.tsv", *(f"{text}\t{name}" for text, name in zip(["ab", "c a"], right, strict=True)))
    command = ["export", tmp_path / "model.keras", "--format", "onnx", "--task", "classify", "--data", data]
    status, _, err = run(capsys, *command, "--out", tmp_path / "out")
    assert status == 2
    assert "`references` must be class ids, or names among `labels`" in err
    status, out, err = run(
        capsys, *command, "--labels", write("labels.txt", *names), "--out", tmp_path / "out", "--json"
    )
    assert (status, err) == (0, "")
    [row] = json.loads(out)["artefacts"]
    assert row["accuracy"] == row["model_accuracy"] == 1.0
    attached = registry.load("formats", "onnx")().attached(tmp_path / "out" / "classify.onnx")
    assert attached["labels.txt"].split("\n") == [*names, ""]


@pytest.mark.parametrize("module", ["keras_attn", "keras_attn.cli"])
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--version"], f"keras-attn {keras_attn.__version__}\n"),
        (["--help"], "usage: keras-attn"),
        (["export", "--help"], "usage: keras-attn export"),
    ],
)
def test_questions_about_the_command_import_no_keras(module, arguments, answer):
    command = [sys.executable, "-X", "importtime", "-m", module, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.startswith(answer)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in process.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"keras", "tensorflow", "numpy"}


def test_the_script_finds_what_a_model_is_made_of(tmp_path):
    script = tmp_path / "keras-attn"
    script.write_text("import sys\nfrom keras_attn.cli import main\nsys.exit(main())\n")
    process = subprocess.run([sys.executable, script, "--version"], capture_output=True, text=True, check=True)
    assert process.stdout == f"keras-attn {keras_attn.__version__}\n"
    tokenizer = CharacterTokenizer("ab")
    settings = {"tokenizer": tokenizer, "generation_config": keras_attn.GenerationConfig(4, strategy=BeamSearch(2))}
    model = keras_attn.LanguageModel(tokenizer.vocabulary_size, 1, 8, 2, 8, **settings)
    model.compile("adam", MaskedCrossEntropy())
    model.save(tmp_path / "model.keras")
    command = [sys.executable, script, "inspect", tmp_path / "model.keras"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "LanguageModel, float32" in process.stdout


def test_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export"])
    assert stopped.value.code == 2


@pytest.mark.parametrize("sizes", ["batch", "batch=x", "batch=1=2", "=3", "batch=1,batch=2"])
def test_sizes_of_axes(sizes, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", "model.keras", "--format", "onnx", "--out", "out", "--shapes", sizes])
    assert stopped.value.code == 2
    assert f"as batch=1,source_length=32. Received: '{sizes.split(',')[-1]}'" in capsys.readouterr().err


def test_as_a_command(saved):
    command = [sys.executable, "-m", "keras_attn", "verify", str(saved)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith("keras-attn: `path`")
    assert "Traceback" not in process.stderr
