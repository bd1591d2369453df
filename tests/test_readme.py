"""What README and the pages of the tasks show runs as it stands."""

import importlib
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_attn import cli

ROOT = Path(__file__).parents[1]
TASKS = ("audio", "compression", "images", "long_sequences", "summarization")
# Their Python cells read what a long training run wrote.
READ_FILES = ("images",)
CHECKPOINT = Path(__file__).parent / "fixtures" / "pretrained" / "BertForSequenceClassification-text"
NEEDED = ("sentencepiece", "tensorflow_text", "tf2onnx", "onnxruntime", "ai_edge_litert", "matplotlib")


def cells(document, language):
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_python_cells_run_in_order(tmp_path, monkeypatch, capsys):
    for module in NEEDED:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CHECKPOINT, tmp_path / "my-bert")
    shutil.copytree(ROOT / "tests/fixtures/pretrained/BertForSequenceClassification", tmp_path / "my-encoder")
    found = cells("README.md", "python")
    assert len(found) > 5
    scope = {"__name__": "__main__"}
    printed = []
    for cell in found:
        exec(compile(cell, "README.md", "exec"), scope)
        printed.append(capsys.readouterr().out)
    # What the training cell learnt, and what comments say is printed.
    [answer] = [out for out in printed if "05-" in out]
    assert answer.splitlines()[-1] == "['05-07']"
    for cell, out in zip(found, printed, strict=True):
        for expected in re.findall(r"^print\(.*\)  # (.*)$", cell, re.MULTILINE):
            assert expected in out.splitlines()
    assert scope["report"].ok
    assert (tmp_path / "maps.png").is_file()
    expected = load_file(CHECKPOINT / "expected.safetensors")["text/logits"]
    np.testing.assert_allclose(scope["logits"], expected, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "my-copy" / "tokenizer.json").is_file()


@pytest.mark.parametrize("document", ["README.md", "export/README.md"])
def test_commands_are_understood(document):
    lines = [line for cell in cells(document, "sh") for line in cell.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if "keras-attn " in line]
    assert commands
    for program, *arguments in commands:
        assert program in ("keras-attn", ".venv/bin/keras-attn")
        assert cli._parser().parse_args(arguments).run


def test_files_that_it_names_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target}
    named |= set(re.findall(r"(?:export|examples)/\w+\.py", text))
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists()]


class UnderstoodError(Exception):
    """Ends an example after its arguments and data have been read; tests/examples run them."""


@pytest.mark.parametrize("task", TASKS)
def test_pages_of_tasks_run(task, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tokenizers")
    page = f"docs/{task}.md"
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "__main__"}
    for cell in [] if task in READ_FILES else cells(page, "python"):
        exec(compile(cell, page, "exec"), scope)
        out = capsys.readouterr().out
        for expected in re.findall(r"^print\(.*\)  # (.*)$", cell, re.MULTILINE):
            assert expected in out.splitlines()
    data = os.environ.get("KERAS_ATTN_DATA")
    monkeypatch.delenv("KERAS_ATTN_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    lines = [line for cell in cells(page, "sh") for line in cell.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("python examples/")]
    assert commands
    for _, script, *arguments in commands:
        # A folder of the reader's own is not there.
        if "--folder" in arguments or ("DIR" in arguments and data is None):
            continue
        module = importlib.import_module(Path(script).stem)
        monkeypatch.setattr(module, "Example", mock.Mock(side_effect=UnderstoodError))
        with pytest.raises(UnderstoodError):
            module.main([data if argument == "DIR" else argument for argument in arguments])
