"""docs/layers.md, which `make layers` writes, speaks of the layers as they are."""

import inspect
import pathlib

import keras
import layer_docs
import pytest

from keras_attn import layers

TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "layers.md").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
# A base class, and what another layer always calls: their cases are those of `LuongAttention` and `AttentionRNN`.
ROWLESS = {"Alignment", "AttentionCell"}
CLASSES = [name for name in layers.__all__ if inspect.isclass(getattr(layers, name)) and name not in ROWLESS]


def test_the_catalogue_is_that_of_the_docstrings():
    for name, cells in layer_docs.catalogue().items():
        assert f"| {' | '.join(cells)} |" in LINES, f"{name}: run `make layers`"


@pytest.mark.parametrize("name", CLASSES)
def test_every_layer_has_passed_its_checks(name):
    assert issubclass(getattr(layers, name), keras.layers.Layer)
    [row] = [
        line for line in LINES if line.startswith(f"| `{name}` |") and line.count("|") == len(layer_docs.CHECKS) + 2
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    passed = dict(zip(layer_docs.CHECKS, cells, strict=True))
    assert "FAILED" not in cells
    always = ("oracle", "config", "keras_file", "half_precision", "jit", "dynamic_shapes", "symbolic", "inference")
    for check in (*always, *layer_docs.FORMATS):
        assert passed[check].isdigit() or passed[check] == "exempt", f"{check}: {passed[check]}"
