"""Weights of ONNX models outside of their protocol buffers."""

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keras_attn.export import export, registry
from keras_attn.export.formats import signatures
from keras_attn.export.formats.onnx import layouts, weights
from keras_attn.ops.target import ONNX

W = np.random.default_rng(0).standard_normal((6, 300)).astype("float32")


def model_of(nodes, arrays, outputs=("y",), **constants):
    """A model from `x` to outputs, whose weights are in `arrays`."""
    tensors = [weights.reference(name, array) for name, array in arrays.items()]
    tensors += [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", None]) for name in ("x", *outputs)]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def values_in(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("save", [weights.save, weights.save_in_two])
def test_files_hold_the_weights(tmp_path, save):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    arrays = {"w": W.T, "unused": np.ones(3, "int8")}
    model = model_of(nodes, {"w": W.T}, b=np.float32(2))
    helper.set_model_props(model, {"key": "value"})
    save(model, arrays, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    loaded = onnx.load(tmp_path / "model.onnx")
    found = values_in(loaded)
    assert sorted(found) == ["b", "w"]
    assert found["b"] == 2
    assert np.array_equal(found["w"], W.T)
    assert loaded.graph.node == model.graph.node
    assert loaded.metadata_props == model.metadata_props


def test_weights_move_in_and_out(tmp_path):
    model, arrays = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": W}, b=np.float32(2)), {"w": W}
    weights.embed(model, arrays)
    assert np.array_equal(values_in(model)["w"], W)
    inside, arrays = model.ByteSize(), {}
    weights.take_out(model, arrays)
    assert list(arrays) == ["w"]
    assert np.array_equal(arrays["w"], W)
    assert model.ByteSize() < 1000
    assert abs(weights.size(model, arrays) - inside) < 100


def test_operations_on_weights_are_folded():
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("Concat", ["t", "t"], ["c"], axis=0),
        helper.make_node("Mul", ["c", "two"], ["m"]),
        helper.make_node("Split", ["m"], ["left", "right"], axis=0, num_outputs=2),
        helper.make_node("Add", ["left", "right"], ["sum"]),
        helper.make_node("Tile", ["two", "times"], ["tiled"]),
        helper.make_node("MatMul", ["x", "sum"], ["product"]),
        helper.make_node("Add", ["product", "tiled"], ["y"]),
        helper.make_node("Identity", ["w"], ["z"]),
    ]
    arrays = {"w": W}
    constants = {"two": np.array([2], "float32"), "times": np.array([6])}
    model = model_of(nodes, arrays, ("y", "z"), **constants)
    layouts.lay_out(model, arrays)
    # A constant that grows is not folded, and an output of the model keeps its node.
    assert [node.op_type for node in model.graph.node] == ["Tile", "MatMul", "Add", "Identity"]
    assert np.array_equal(arrays[model.graph.node[1].input[1]], 4 * W.T)
    # Equal results share one constant.
    assert sum(np.array_equal(array, 2 * W.T) for array in arrays.values()) == 1


def test_a_matrix_and_its_transpose():
    symmetric = np.eye(20, dtype="float32")
    arrays = {"w": W, "t": np.ascontiguousarray(W.T), "other": 2 * W, "one": symmetric, "same": symmetric}
    model = model_of([helper.make_node("MatMul", ["x", "t"], ["y"])], arrays)
    layouts.share_transposed(model, arrays)
    assert [tensor.name for tensor in model.graph.initializer] == ["w", "other", "one"]
    assert [(*node.input, *node.output) for node in model.graph.node[:2]] == [("w", "t"), ("one", "same")]


def test_a_model_that_assigns_a_variable():
    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(0)

        def call(self, x):
            return x + keras.random.uniform((1,), seed=self.seed_generator)

    x = keras.Input((20,), name="x")
    task = registry.load("tasks", "forward")(keras.Model(x, Noise()(keras.layers.Dense(20)(x))))
    with pytest.raises(signatures.AssignedVariableError):
        signatures.trace_without(weights.matrices(task.model), task, ONNX)


@pytest.mark.parametrize("wrap", [lambda layer: layer, keras.layers.Bidirectional])
def test_an_lstm_is_one_operator(wrap, tmp_path):
    x = keras.Input((None, 8), name="x")
    model = keras.Model(x, wrap(keras.layers.LSTM(20, return_sequences=True))(x))
    [row] = export(model, tmp_path, "onnx", tasks="forward").rows
    assert row["ok"]
    assert "LSTM" in registry.load("formats", "onnx")().operators(tmp_path / "forward.onnx")
