"""Types on the public surface: all of it is annotated, and static tools see the names that are imported lazily."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import keras_attn
from keras_attn import generation, text, training

ROOT = Path(__file__).parents[1]
PUBLIC = [
    *("", ".ops", ".layers", ".models", ".text", ".export", ".generation", ".generation.processors"),
    *(".training", ".training.data", ".training.text_metrics"),
]
LAZY = [text, generation, generation.processors, training, training.data]


def own_functions(value):
    """The functions of this package that a public function or class is made of, inherited ones included."""
    if inspect.isfunction(value):
        yield inspect.unwrap(value)
    for cls in value.__mro__ if inspect.isclass(value) else ():
        for name, member in vars(cls).items():
            if name.startswith("_") and name not in ("__init__", "__call__"):
                continue
            member = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
            # A dataclass writes some of its methods itself.
            if inspect.isfunction(member) and inspect.unwrap(member).__code__.co_filename != "<string>":
                yield inspect.unwrap(member)


def public_functions():
    for package in PUBLIC:
        module = importlib.import_module(f"keras_attn{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value):
                for name, member in vars(value).items():
                    if name[0] != "_" and getattr(member, "__module__", None) == value.__name__:
                        yield from own_functions(member)
            else:
                yield from own_functions(value)


def missing(function):
    """The parameters of a function that have no annotation, and "return" where that has none."""
    signature = inspect.signature(function)
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
    return bare + ["return"] * (signature.return_annotation is signature.empty)


def test_every_public_parameter_and_result_is_annotated():
    functions = {f for f in public_functions() if f.__module__.startswith("keras_attn.") and f.__name__ != "<lambda>"}
    assert len(functions) > 600
    found = {f"{f.__module__}.{f.__qualname__}": missing(f) for f in functions}
    assert not {name: bare for name, bare in found.items() if bare}


def test_the_check_finds_what_is_missing():
    def function(first, second: int, *rest, **options: int): ...

    assert missing(function) == ["first", "rest", "return"]


def names_for_static_tools(module):
    """What the block `if TYPE_CHECKING:` of a package imports: name -> what it stands for."""
    (block,) = (
        node
        for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        alias.name: getattr(importlib.import_module(statement.module), alias.name)
        for statement in block.body
        for alias in statement.names
    }


@pytest.mark.parametrize("module", LAZY, ids=lambda module: module.__name__)
def test_static_tools_and_dir_see_lazy_names(module):
    homes = getattr(module, "_HOMES", None) or module.HOMES
    static = names_for_static_tools(module)
    assert sorted(static) == sorted(" ".join(homes.values()).split())
    assert all(getattr(module, name) is value for name, value in static.items())
    assert {*module.__all__, *static, "__all__", "__doc__", "__name__"} <= {*dir(module)}
    assert {*static} <= {*module.__all__}


def test_the_package_says_that_it_is_typed():
    assert Path(keras_attn.__file__).with_name("py.typed").is_file()
