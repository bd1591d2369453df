"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parents[1] / "keras_attn"
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    with np.printoptions(precision=4, suppress=True, legacy="2.2"):
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("package", ["layers", "ops", "models"])
def test_every_public_class_and_function_has_a_docstring(package):
    module = importlib.import_module(f"keras_attn.{package}")
    assert all((getattr(module, name).__doc__ or "").strip() for name in module.__all__)


@pytest.mark.parametrize("package", ["layers", "models"])
def test_every_public_class_has_an_example(package):
    module = importlib.import_module(f"keras_attn.{package}")
    classes = [value for name in module.__all__ if isinstance(value := getattr(module, name), type)]
    assert classes
    assert not [cls.__name__ for cls in classes if ">>> " not in (cls.__doc__ or "")]
