"""Sums broadcast, whatever the shapes, nobody adds in another way, and reshapes keep the number of rows."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_attn
from keras_attn.ops.arrays import add, reshape_rows

# Where `keras.ops.add` may be used: a bias, which TensorFlow fuses with the product before it.
OF_BIASES = {
    "layers/base/projection.py",
    "layers/embeddings/token_embedding.py",
    "layers/transformer/mixture_of_experts.py",
}
SHAPES = [
    ((3, 3), (3, 1)),
    ((3, 4), (3, 1)),
    ((2, 4, 4, 4), (1, 4, 1, 1)),
    ((2, 4, 4, 4), (4, 1)),
    ((2, 3, 0, 0), (1, 3, 0, 0)),
    ((1, 0, 5), (1, 0, 5)),
    ((0, 1, 5), (0, 1, 5)),
    ((0, 5), (5,)),
    ((), (3, 1)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_sums_broadcast_as_numpy_does(left, right):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=left), rng.normal(size=right)
    for a, b in ((x, y), (y, x)):
        np.testing.assert_array_equal(add(a, b), a + b)


def test_dtypes_are_those_of_keras():
    for x, y in (("float16", "float32"), ("int32", "float32"), ("int32", "int64"), ("bfloat16", "float16")):
        a, b = keras.ops.ones((2, 3), x), keras.ops.ones((3,), y)
        assert add(a, b).dtype == keras.ops.add(a, b).dtype
    assert keras.backend.standardize_dtype(add(np.ones(2, "float32"), 0.5).dtype) == "float32"


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (2, 5)])
def test_rows_stay_rows(sizes):
    rows, length = sizes
    x = np.zeros((rows * length, 6), "float32")
    graph = keras.backend.backend() == "tensorflow"
    assert tuple(reshape_rows(x, rows, length, 2, 3).shape) == (rows, length, 2, 3)
    if graph:
        import tensorflow as tf

        spec = [tf.TensorSpec((None, None, 6))]
        call = tf.function(lambda x: reshape_rows(x, *keras.ops.shape(x)[:2], 2, 3), input_signature=spec)
        assert tuple(call(x.reshape(rows, length, 6)).shape) == (rows, length, 2, 3)


def test_nothing_is_added_but_by_add():
    package = Path(keras_attn.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "add" and ast.unparse(node.value).endswith("ops"):
                found.add(path.relative_to(package).as_posix())
    assert found <= OF_BIASES, "`keras.ops.add` may take an array for a bias: `keras_attn.ops.arrays.add` does not"
