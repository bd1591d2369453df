"""Who imports whom, and what `import keras_attn` costs: the table in docs/architecture.md, enforced."""

import ast
import functools
import graphlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_attn

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_attn"
FILES = sorted(PACKAGE.rglob("*.py"))
KIT = sorted((ROOT / "export").rglob("*.py"))

HELPERS = {
    "argument_checks",
    "columns",
    "compat",
    "extras",
    "folder_lock",
    "labels",
    "lazy",
    "lines",
    "plain_numbers",
    "plot",
    "replacement",
    "special_ids",
    "typing",
}
MAY_IMPORT = {
    "ops": set(),
    "layers": {"ops"},
    "text": {"ops"},
    "generation": {"ops", "text"},
    "models": {"ops", "layers", "text", "generation"},
    "training": {"ops", "layers", "models"},
    "pretrained": {"ops", "layers", "text", "generation", "models"},
    "export": {"ops", "layers", "text", "generation", "models", "training", "pretrained"},
    "cli": {"ops", "layers", "text", "generation", "models", "training", "pretrained", "export"},
    "__main__": {"cli"},
    **{helper: set() for helper in HELPERS},
}
# Inside a package: sub-packages, and those of its modules that they may import. What else lies beside the sub-packages
# is above them all.
MAY_IMPORT_INSIDE = {
    "layers": {
        "base": set(),
        "positions": {"base"},
        "attention": {"base", "positions"},
        "pooling": {"base", "attention"},
        "heads": {"base", "pooling"},
        "embeddings": {"base"},
        "transformer": {"base", "attention"},
        "recurrent": {"base"},
    },
    "generation": {"settings": set(), "automata": set(), "processors": {"settings", "automata"}},
    "text": {"pretrained": set(), "graph": {"pretrained"}},
    "training": {
        "schedules": set(),
        "optimizers": set(),
        "losses": set(),
        "metrics": {"losses"},
        "data": {"losses"},
        "callbacks": set(),
        "text_metrics": set(),
        "checkpoints": {"losses", "metrics", "data"},
        "distillation": {"losses"},
        "pruning": {"callbacks", "losses"},
    },
    "export": {
        "registry": set(),
        "report": set(),
        "precisions": set(),
        "tensor_spec": set(),
        "labelled_data": set(),
        "folder": {"registry"},
        "tasks": {"registry", "report", "tensor_spec", "labelled_data"},
        "formats": {"registry", "report", "precisions", "tensor_spec", "tasks"},
        "verification": {"registry", "report", "precisions", "folder"},
        "quantization": {"registry", "report", "precisions", "labelled_data", "folder", "formats", "verification"},
    },
}
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


class Runtime(ast.NodeTransformer):
    """Leaves out imports under `if TYPE_CHECKING:`.

    Nothing of it ever runs, so that it makes no package need another. An annotation may name a class above its own: a
    logit processor is told which `GenerationConfig` it is part of.
    """

    def visit_If(self, node):
        return node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def parse(path):
    return Runtime().visit(ast.parse(path.read_text(encoding="utf-8")))


def at_import(tree):
    """What runs when a module is imported: the tree without the bodies of its functions."""
    kept = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return ast.Module(body=kept, type_ignores=[])


def test_the_tables_are_those_of_the_packages():
    parts = [path.relative_to(PACKAGE).with_suffix("").parts for path in FILES]
    assert {first for first, *_ in parts} - {"__init__"} == MAY_IMPORT.keys()
    for package, table in MAY_IMPORT_INSIDE.items():
        inside = [rest for first, *rest in parts if first == package]
        assert {rest[0] for rest in inside if len(rest) > 1} <= table.keys()
        assert {rest[0] for rest in inside} >= table.keys()


@pytest.mark.parametrize("table", [MAY_IMPORT, *MAY_IMPORT_INSIDE.values()], ids=["packages", *MAY_IMPORT_INSIDE])
def test_the_tables_have_no_circle(table):
    assert set().union(*table.values()) <= table.keys()
    graphlib.TopologicalSorter(table).prepare()


@pytest.mark.parametrize("path", [p for p in FILES if p != PACKAGE / "__init__.py"], ids=name)
def test_imports_go_down_only(path):
    package, *rest = path.relative_to(PACKAGE).with_suffix("").parts
    imported = {tuple(module.split(".")[1:]) for module in imports(parse(path)) if module.startswith("keras_attn.")}
    upward = {first for first, *_ in imported} - MAY_IMPORT[package] - HELPERS - {package}
    assert not upward, f"{package} may import {sorted(MAY_IMPORT[package])}"
    table = MAY_IMPORT_INSIDE.get(package, {})
    if rest and rest[0] in table:
        modules = {path.relative_to(PACKAGE).with_suffix("").parts[1] for path in FILES if path.parent != PACKAGE}
        inside = {x[1] for x in imported if len(x) > 1 and x[0] == package}
        assert inside <= modules, "what the package offers is above what is in it"
        upward = inside - table[rest[0]] - {rest[0]}
        assert not upward, f"{package}/{rest[0]} may import {sorted(table[rest[0]])}"


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
    assert cost["seconds"] <= 0.15  # a fortieth of `import keras`; 0.06 to 0.11, by machine and load


def test_import_brings_no_extra(cost):
    assert not {module.partition(".")[0] for module in cost["modules"]} & EXTRAS


def test_what_is_imported_at_once_needs_the_core_only(cost):
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module in cost["modules"]:
            roots = {imported.partition(".")[0] for imported in imports(at_import(parse(path)))}
            foreign = roots - {"keras_attn", "keras", "numpy"} - sys.stdlib_module_names
            assert not foreign, name(path)


PRIVATE_PACKAGES = ("keras.src", "tensorflow.python", "tensorflow.lite.python")
# What code holds that it did not make itself. Whatever derives from these adds to their names.
FOREIGN = (
    keras.layers.Layer,
    keras.Model,
    keras.Sequential,
    keras.Variable,
    keras.KerasTensor,
    keras.DTypePolicy,
    keras.optimizers.Adam,
    keras.optimizers.LossScaleOptimizer,
    keras.losses.MeanSquaredError,
    keras.metrics.MeanSquaredError,
    keras.callbacks.EarlyStopping,
    keras.callbacks.ModelCheckpoint,
)
COMPAT = "keras_attn.compat", "keras_attn.export.formats.converter_compat"
OUR_OWN = [path for path in FILES if ".".join(path.relative_to(ROOT).with_suffix("").parts) not in COMPAT]


# What `typing.NamedTuple` offers, where no field may have a name like that.
PUBLIC = {"_asdict", "_replace"}


def is_private(word):
    return word.isidentifier() and word.strip("_") and word[0] == "_" != word[1] and word not in PUBLIC


def is_own(node):
    """Whether a node is `self`, `cls` or `super()`."""
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "super")


def is_attribute_by_name(node):
    """Whether a call is `getattr(x, "name")` or the like."""
    is_one = isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr", "setattr", "delattr")
    found = getattr(node.args[1], "values", node.args[1:])[0] if is_one else None
    return isinstance(found, ast.Constant)


def private_names(tree, own):
    """Names that a tree defines, or touches on `self`, if `own`; or else gets from another object."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_own(node.value) is own:
            yield node.attr
        elif isinstance(node, ast.Call) and is_attribute_by_name(node) and is_own(node.args[0]) is own:
            # Of an f-string its beginning.
            yield getattr(node.args[1], "values", node.args[1:])[0].value
        elif own and isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif own and isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def strings(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@functools.cache
def classes_in(file):
    return {node.name: node for node in ast.walk(parse(Path(file))) if isinstance(node, ast.ClassDef)}


@functools.cache
def own_names(cls):
    """The private names that a class defines, or touches on itself."""
    file = getattr(sys.modules[cls.__module__], "__file__", None)
    tree = classes_in(file).get(cls.__name__) if file and file.endswith(".py") else None
    return set() if tree is None else set(filter(is_private, private_names(tree, own=True)))


def foreign_names(cls):
    """The private names of the classes of Keras and TensorFlow that a class derives from."""
    foreign = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in ("keras", "tensorflow")]
    return set().union(*map(own_names, foreign))


@functools.cache
def names_of_others():
    return set().union(*map(foreign_names, FOREIGN))


@functools.cache
def names_of_ours():
    return {word for path in FILES for word in private_names(parse(path), own=True) if is_private(word)}


@pytest.mark.parametrize("path", OUR_OWN, ids=name)
def test_only_compat_knows_private_names(path):
    tree = parse(path)
    assert not [module for module in imports(tree) if module.startswith(PRIVATE_PACKAGES)]
    dotted = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not dotted & {"keras.src", "tf.python", "tensorflow.python"}
    touched = set(filter(is_private, private_names(tree, own=False)))
    assert not touched - names_of_ours(), "no class of ours has these"
    assert not touched & names_of_others(), "classes of Keras have these"
    # As in `getattr(layer, "_dtype_policy")`.
    assert not strings(tree) & names_of_others() - names_of_ours()


def test_no_class_touches_what_is_private_to_its_keras_base():
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == keras_attn.__name__]
    ours = {x for module in modules for x in vars(module).values() if isinstance(x, type)}
    derived = [cls for cls in ours if cls.__module__.startswith("keras_attn.") and foreign_names(cls)]
    assert len(derived) > 50
    found = {
        (base.__name__, word)
        for cls in derived
        for base in cls.__mro__
        if base.__module__.startswith("keras_attn.") and base.__module__ not in COMPAT
        for word in own_names(base) & foreign_names(cls)
    }
    assert not found


@pytest.mark.parametrize("path", OUR_OWN, ids=name)
def test_only_compat_patches(path):
    tree = parse(path)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    # `sys` is there to be written to.
    imported = {alias.asname or alias.name for node in nodes for alias in node.names} - {"sys"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            target = node.value
            while isinstance(target, ast.Attribute):
                target = target.value
            assert not (isinstance(target, ast.Name) and target.id in imported), ast.unparse(node)
            assert not (isinstance(target, ast.Call) and ast.unparse(target.func) == "vars"), ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("object.__setattr__", "object.__delattr__"):
            assert is_own(node.args[0]), ast.unparse(node)
