"""Quantised artefacts are small, lie beside the float ones, and come as near to the model as their precision may."""

import os

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_attn import GenerationConfig, LanguageModel, Seq2SeqRNN
from keras_attn.export import ExportError, export, precisions, verify
from keras_attn.export.formats.onnx import graphs
from keras_attn.export.formats.onnx import writer as onnx_format
from keras_attn.export.formats.onnx.quantization import BLOCK, levels_of_blocks, levels_of_rows
from keras_attn.export.formats.tflite import static_quantization

PAIRS = {
    "saved_model": ["float32", "float16"],
    "tflite": ["float32", "float16", "int8", "int8_full"],
    "onnx": ["float32", "float16", "int8", "int4"],
}


@pytest.fixture(scope="module")
def language_model():
    keras.utils.set_random_seed(3)
    sizes = {"num_layers": 2, "hidden_dim": 64, "num_heads": 4, "intermediate_dim": 96}
    model = LanguageModel(61, **sizes, generation_config=GenerationConfig(4, end_id=60))
    rng = np.random.default_rng(2)
    model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("format", PAIRS)
def test_every_precision_of_a_format(format, language_model, tmp_path):
    report = export(language_model, tmp_path, format, tasks="forward", precision=PAIRS[format])
    assert [row["precision"] for row in report.rows] == PAIRS[format]
    sizes = {row["precision"]: row["bytes"] for row in report.rows}
    assert sizes["float16"] < 0.75 * sizes["float32"]
    assert all(sizes[name] < sizes["float16"] for name in sizes if name.startswith("int"))
    for row in report.rows[1:]:
        assert row["max_abs_diff"] > 0
        assert precisions.TABLE[row["precision"]].cosine <= row["cosine"] < 1
    assert all(row["nodes"] > 10 and row["peak_bytes"] > 1e6 for row in report.rows)
    # The other formats are verified again elsewhere, and a SavedModel takes long to load.
    if format == "onnx":
        assert verify(tmp_path).ok


@pytest.mark.parametrize(("format", "precision"), [("saved_model", "float16"), ("tflite", "int8")])
def test_generation_in_a_smaller_precision(format, precision, language_model, tmp_path):
    [row] = export(language_model, tmp_path, format, precision=precision).rows
    assert 0.25 <= row["token_agreement"] <= 1


def test_a_loop_shares_its_weights_and_has_them_small(language_model, tmp_path):
    report = export(language_model, tmp_path, "onnx", tasks="generate", precision=["float32", "int8", "int4"])
    assert all(row["token_agreement"] >= 0.25 for row in report.rows[1:])
    models = [onnx.load(tmp_path / f"generate{part}.onnx") for part in ("", ".int8", ".int4")]
    whole, small = (
        [a for a in map(onnx.numpy_helper.to_array, graphs.constants(model).values()) if a.ndim > 1 and a.size > 99]
        for model in models[:2]
    )
    assert len({x.tobytes() for a in whole for x in (a, np.ascontiguousarray(a.T))}) == 2 * len(whole)
    assert not any(a.dtype == "float32" for a in small)
    for model, product in zip(models[1:], ("MatMulInteger", "MatMulNBits"), strict=True):
        [body] = [inner for node in model.graph.node for inner in graphs.inner_graphs(node)]
        operators = [node.op_type for node in body.node]
        # Six a block, and the output.
        assert operators.count(product) == 13
        # Logits of attention and what they weigh.
        assert operators.count("MatMul") == 4


@pytest.mark.parametrize(("format", "precision"), [("onnx", "int8"), ("tflite", "int8_full")])
def test_recurrent_layers_in_integers(format, precision, tmp_path):
    keras.utils.set_random_seed(3)
    model = Seq2SeqRNN.bahdanau(41, hidden_dim=32, generation_config=GenerationConfig(4, end_id=40))
    rows = export(model, tmp_path, format, tasks=["encode", "decode"], precision=precision).rows
    assert all(precisions.TABLE[precision].cosine <= row["cosine"] < 1 for row in rows)


def test_ranges_of_all_shapes_are_measured(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    function = tf.function(lambda x: {"y": x @ matrix}, input_signature=[tf.TensorSpec((None, 4))])
    tf.saved_model.save(tf.Module(), tmp_path, signatures={"serving_default": function})
    converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(tmp_path))
    cases = [{"x": np.full((rows, 4), value, "float32")} for rows, value in ((2, -3.0), (5, 7.0), (1, 0.5))]
    content = static_quantization.quantized(converter.convert(), {"serving_default": cases}, "FULLY_CONNECTED")
    runner = Interpreter(model_content=content).get_signature_runner()
    for case in cases:
        [actual] = runner(**case).values()
        np.testing.assert_allclose(actual, case["x"] @ matrix, atol=0.2)


@pytest.mark.parametrize(("format", "precision"), [("onnx", "int4"), ("tflite", "int8"), ("tflite", "float16")])
def test_kept_weights_are_exact(format, precision, language_model, tmp_path):
    arguments = {"tasks": "forward", "precision": precision}
    plain = export(language_model, tmp_path, format, **arguments).rows[0]
    kept = export(language_model, tmp_path, format, keep_float=["decoder", "embedding"], **arguments).rows[0]
    # In float16, TFLite also halves constants that are no weights.
    bound = 1e-3 if (format, precision) == ("tflite", "float16") else 1e-4
    assert kept["max_abs_diff"] < bound < plain["max_abs_diff"]
    assert kept["bytes"] > 1.5 * plain["bytes"]


def test_blocks_of_four_bits():
    matrix = np.random.default_rng(0).normal(size=(BLOCK + 7, 5))
    levels, scales = levels_of_blocks(matrix)
    assert levels.shape == (5, 2, BLOCK)
    restored = (levels * scales[..., None]).reshape(5, -1)[:, : len(matrix)].T
    assert np.max(np.abs(restored - matrix)) <= 1.01 * np.max(np.abs(scales))
    assert np.linalg.norm(restored - matrix) < 0.12 * np.linalg.norm(matrix)


def test_rows_of_eight_bits():
    table = np.random.default_rng(0).normal(size=(7, 5)) * 10.0 ** np.arange(-3, 4)[:, None]
    table[2] = 0
    levels, scales = levels_of_rows(table)
    assert levels.dtype == "int8"
    assert np.max(np.abs(levels * scales - table) / scales) <= 0.501


def test_nodes_are_put_behind_what_they_read():
    helper, flag = onnx.helper, onnx.TensorProto.FLOAT
    body = helper.make_graph(
        [helper.make_node("Add", ["twice", "late"], ["sum"]), helper.make_node("Add", ["late", "late"], ["twice"])],
        "body",
        [],
        [helper.make_tensor_value_info("sum", flag, None)],
    )
    nodes = [
        helper.make_node("If", ["condition"], ["out"], "if", then_branch=body, else_branch=body),
        helper.make_node("Neg", ["x"], ["late"], "neg"),
    ]
    graph = helper.make_graph(nodes, "graph", [], [helper.make_tensor_value_info("out", flag, None)])
    graphs.sort(graph)
    assert [node.name for node in graph.node] == ["neg", "if"]
    for inner in graphs.inner_graphs(graph.node[1]):
        assert [node.output[0] for node in inner.node] == ["twice", "sum"]


def test_weights_in_a_file_of_their_own(language_model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "EXTERNAL_FROM", 10_000)
    export(language_model, tmp_path, "onnx", tasks="forward")
    assert {"forward.onnx", "forward.onnx.data"} < set(os.listdir(tmp_path))
    assert verify(tmp_path).ok
    data = tmp_path / "forward.onnx.data"
    data.write_bytes(b"x" + data.read_bytes()[1:])
    assert "forward.onnx.data has changed" in verify(tmp_path).failures[0]
    monkeypatch.undo()
    export(language_model, tmp_path, "onnx", tasks="forward")
    assert not data.exists()


def test_a_precision_that_comes_not_near_enough(language_model, tmp_path, monkeypatch):
    monkeypatch.setitem(precisions.TABLE, "int4", precisions.Precision("int4", cosine=0.99999))
    with pytest.raises(ExportError, match=r"forward.int4.onnx \(onnx, forward\): logits of case 0 has cosine"):
        export(language_model, tmp_path / "out", "onnx", tasks="forward", precision=["float32", "int4"])
    assert os.listdir(tmp_path) == []
