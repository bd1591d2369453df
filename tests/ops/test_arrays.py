"""Sums broadcast, whatever the shapes, nobody adds in another way, and reshapes keep the number of rows."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_attn
from keras_attn.ops.arrays import add, axis_size, conv, reshape, reshape_as, reshape_rows, shape_of

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


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (2, 5)])
@pytest.mark.parametrize("spec", [(None, None, 6), (None, "length", 6), ("rows", None, 6), ("rows", "length", 6)])
def test_leading_sizes_are_those_of_another_tensor(sizes, spec):
    rows, length = sizes
    flat, like = np.zeros((rows * length, 4), "float32"), np.zeros((rows, length, 6), "float32")
    assert tuple(reshape_as(flat, like, 2, 4).shape) == (rows, length, 4)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        known = tf.TensorSpec([{"rows": rows, "length": length}.get(size, size) for size in spec])
        call = tf.function(lambda x, y: reshape_as(x, y, 2, 4), input_signature=[tf.TensorSpec((None, 4)), known])
        assert tuple(call(flat, like).shape) == (rows, length, 4)


def test_known_sizes_are_ints_and_add_nothing_to_a_graph():
    x = np.zeros((2, 3, 4), "float32")
    assert shape_of(keras.ops.convert_to_tensor(x)) == shape_of(x) == (2, 3, 4)
    symbol = keras.Input((None, 4))
    assert shape_of(symbol) == (None, None, 4)
    assert [axis_size(symbol, axis) for axis in (0, 1, -1)] == [None, None, 4]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def sizes(x):
            assert axis_size(x, -1) == 4
            assert shape_of(x[0, 0]) == (4,)
            assert tuple(reshape_as(x, x, 1, 12).shape) == (None, 12)
            assert not [op for op in x.graph.get_operations() if op.type == "Shape"]
            return *shape_of(x), axis_size(x, -3), axis_size(x, 1)

        call = tf.function(sizes, input_signature=[tf.TensorSpec((None, None, 4))], autograph=False)
        assert [int(size) for size in call(x)] == [2, 3, 4, 2, 3]


@pytest.mark.parametrize("shape", [(6, 4), (-1,), (2, -1, 2), "computed"])
def test_reshape_is_that_of_keras(shape):
    x = np.arange(24.0).reshape(2, 3, 4)
    if shape == "computed":
        shape = (keras.ops.convert_to_tensor(2, "int32"), 12)
    np.testing.assert_array_equal(reshape(x, shape), x.reshape(np.asarray(shape)))
    symbol = keras.Input(batch_shape=x.shape)
    assert reshape(symbol, (6, 4)).shape == (6, 4)


@pytest.mark.parametrize(("strides", "padding"), [(1, "valid"), (2, "valid"), (1, "same"), (3, "same")])
@pytest.mark.parametrize("sizes", [(7,), (7, 5)])
def test_convolutions_of_an_empty_batch_have_the_shape_of_others(sizes, strides, padding):
    filters = np.ones((3,) * len(sizes) + (2, 4), "float32")
    expected = keras.ops.conv(np.ones((1, *sizes, 2), "float32"), filters, strides, padding).shape[1:]
    for batch in (0, 1):
        x = keras.ops.ones((batch, *sizes, 2))
        assert conv(x, filters, strides, padding).shape == (batch, *expected)
        assert conv(keras.Input(batch_shape=x.shape), filters, strides, padding).shape == (batch, *expected)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            for spec in ((None, *sizes, 2), (None,) * len(sizes) + (None, 2)):
                call = tf.function(lambda x: conv(x, filters, strides, padding), input_signature=[tf.TensorSpec(spec)])
                assert call(x).shape == (batch, *expected)


@pytest.mark.parametrize(("name", "elsewhere"), [("add", OF_BIASES), ("conv", {"ops/arrays.py"})])
def test_what_keras_gets_wrong_is_not_called(name, elsewhere):
    package = Path(keras_attn.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == name and ast.unparse(node.value).endswith("ops"):
                found.add(path.relative_to(package).as_posix())
    assert found <= elsewhere, (
        f"use `keras_attn.ops.arrays.{name}`, not `keras.ops.{name}`, which is wrong for some shapes"
    )
