"""Who imports whom, and what `import keras_attn` costs: the table in docs/architecture.md, enforced."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_attn"
FILES = sorted(PACKAGE.rglob("*.py"))
KIT = sorted((ROOT / "export").rglob("*.py"))

MAY_IMPORT = {
    "ops": set(),
    "layers": {"ops"},
    "models": {"layers", "ops"},
    "text": set(),
    "generation": {"models", "ops"},
    "training": {"models", "ops"},
    "pretrained": {"models", "text"},
    "export": {"ops", "layers", "models", "text", "generation", "training", "pretrained"},
    "cli": {"ops", "layers", "models", "text", "generation", "training", "pretrained", "export"},
    "__main__": {"cli"},
    # Not rooms, but helpers that any of them may use.
    "argument_checks": set(),
    "columns": set(),
    "extras": set(),
    "labels": set(),
    "lazy": set(),
    "lines": set(),
    "plain_numbers": set(),
    "special_ids": set(),
    "plot": set(),
}
HELPERS = {"argument_checks", "columns", "extras", "labels", "lazy", "lines", "plain_numbers", "special_ids", "plot"}
EXTRAS = {
    "ai_edge_litert",
    "babel",
    "interegular",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxruntime_extensions",
    "rich",
    "rouge_score",
    "sacrebleu",
    "safetensors",
    "sentencepiece",
    "tensorflow_text",
    "tf2onnx",
    "tokenizers",
    "torch",
}


def name(path):
    return str(path.relative_to(ROOT))


def imports(tree):
    """Dotted names that a syntax tree imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def at_import(tree):
    """What runs when a module is imported: the tree without the bodies of its functions."""
    kept = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return ast.Module(body=kept, type_ignores=[])


def test_the_table_knows_every_room():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__"}
    assert rooms <= MAY_IMPORT.keys()


@pytest.mark.parametrize("path", [p for p in FILES if p != PACKAGE / "__init__.py"], ids=name)
def test_imports_go_down_only(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    seen = {module.split(".")[1] for module in imports(parse(path)) if module.startswith("keras_attn.")}
    upward = seen - MAY_IMPORT[room] - HELPERS - {room}
    assert not upward, f"{room} may import {sorted(MAY_IMPORT[room])}"


@pytest.mark.parametrize("path", KIT, ids=name)
def test_the_deployment_kit_knows_neither_us_nor_keras(path):
    roots = {module.partition(".")[0] for module in imports(parse(path))}
    assert not roots & {"keras_attn", "keras", "tf_keras"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "layers").rglob("*.py")), ids=name)
def test_one_public_class_a_file_named_after_it(path):
    classes = [node.name for node in parse(path).body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    assert [name.lower() for name in classes] in ([], [path.stem.replace("_", "")])


@pytest.fixture(scope="module")
def cost(tmp_path_factory):
    """What `import keras_attn`, once compiled, adds to `import keras`, in a process of its own."""
    code = """
import json, sys, time
import keras
before = set(sys.modules)
seconds = []
for _ in range(5):
    for module in [m for m in sys.modules if m.partition(".")[0] == "keras_attn"]:
        del sys.modules[module]
    start = time.process_time()
    import keras_attn
    seconds.append(time.process_time() - start)
print(json.dumps({"seconds": min(seconds), "modules": sorted(set(sys.modules) - before)}))
"""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}
    # Set, it would have every import compile anew, as no user's does.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(process.stdout.splitlines()[-1])


def test_import_is_cheap(cost):
    assert cost["seconds"] <= 0.1


def test_import_brings_no_extra(cost):
    assert not {module.partition(".")[0] for module in cost["modules"]} & EXTRAS


def test_what_is_imported_at_once_needs_the_core_only(cost):
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module in cost["modules"]:
            roots = {imported.partition(".")[0] for imported in imports(at_import(parse(path)))}
            foreign = roots - {"keras_attn", "keras", "numpy"} - sys.stdlib_module_names
            assert not foreign, name(path)
