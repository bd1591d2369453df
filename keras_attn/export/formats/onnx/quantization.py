"""Weight quantisation of ONNX models. Each function takes a model and the names of constants to keep unchanged."""

import tempfile
from pathlib import Path

import numpy as np

from keras_attn.export.formats.onnx.graphs import graphs, remove_unused, replace_nodes, sort

BLOCK = 32


def float16(model, keep=frozenset()):
    """Stores matrices in half precision; runtimes cast them to float32 when they load the model."""
    from onnx import TensorProto, helper, numpy_helper

    for graph in graphs(model.graph):
        casts = []
        for tensor in graph.initializer:
            if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or tensor.name in keep:
                continue
            name, limit = tensor.name, np.finfo("float16").max
            half = np.clip(numpy_helper.to_array(tensor), -limit, limit).astype("float16")
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}__half"))
            casts.append(helper.make_node("Cast", [f"{name}__half"], [name], f"{name}__cast", to=TensorProto.FLOAT))
        for cast in reversed(casts):
            graph.node.insert(0, cast)
    return model


def int8(model, keep=frozenset()):
    """Stores matrices and tables in int8, with a scale per channel or row; quantises other operands dynamically."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _quantize_tables(model, keep)
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # Use half of the range: without VNNI, x86 adds pairs of products in 16 bits.
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in nodes if keep.intersection(node.input)],
            extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
        )
        quantized = onnx.load(path)
    # Nodes that a loop body reads may have been placed after the loop.
    sort(quantized.graph)
    return quantized


def _quantize_tables(model, keep):
    """Stores tables in int8, with a scale per row.

    onnxruntime's own quantisation adds a DequantizeLinear after each lookup, moves it to its consumers, and aborts if
    one of them is the body of a loop.
    """
    from onnx import TensorProto, helper

    tables, packed = _matrices(model, keep), {}
    for graph in graphs(model.graph):
        nodes = []
        for node in graph.node:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            if node.op_type != "Gather" or axis != 0 or node.input[0] not in tables:
                nodes.append(node)
                continue
            (name, ids), (output,) = node.input, node.output
            if name not in packed:
                packed[name] = _add_packed(*tables[name], "int8", levels_of_rows)
            levels, scales = packed[name]
            nodes += [
                helper.make_node("Gather", [levels, ids], [f"{output}__int8"], f"{node.name}__int8"),
                helper.make_node("Gather", [scales, ids], [f"{output}__scales"], f"{node.name}__scales"),
                helper.make_node(
                    "Cast", [f"{output}__int8"], [f"{output}__cast"], f"{node.name}__cast", to=TensorProto.FLOAT
                ),
                helper.make_node("Mul", [f"{output}__cast", f"{output}__scales"], [output], node.name),
            ]
        if len(nodes) > len(graph.node):
            replace_nodes(graph, nodes)
    remove_unused(model)


def levels_of_rows(table):
    """Quantises the rows of a table to integers in [-127, 127]; returns them and the scales `(rows, 1)`."""
    largest = np.abs(table).max(-1, keepdims=True)
    scales = np.where(largest == 0, 1, largest / 127).astype("float32")
    return np.rint(table / scales).astype("int8"), scales


def int4(model, keep=frozenset()):
    """Stores matrices in 4 bits, with a scale per `BLOCK` weights of a column, for onnxruntime's MatMulNBits."""
    from onnx import helper

    matrices, packed = _matrices(model, keep), {}
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.op_type != "MatMul" or node.input[1] not in matrices:
                continue
            name = node.input[1]
            rows, columns = matrices[name][1].dims
            if name not in packed:
                packed[name] = _add_packed(*matrices[name], "int4", pack_int4)
            operands = [node.input[0], *packed[name]]
            sizes = {"K": rows, "N": columns, "bits": 4, "block_size": BLOCK}
            product = helper.make_node(
                "MatMulNBits", operands, list(node.output), node.name, domain="com.microsoft", **sizes
            )
            node.CopyFrom(product)
    remove_unused(model)
    if packed:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def pack_int4(matrix):
    """Packs a float matrix `(K, N)` for MatMulNBits: nibbles `(N, blocks, BLOCK / 2)` and scales `(N, blocks)`."""
    levels, scales = levels_of_blocks(matrix)
    levels = (levels + 8).astype("uint8")
    return levels[..., ::2] | (levels[..., 1::2] << 4), scales


def levels_of_blocks(matrix):
    """Quantises `matrix.T` to integers in [-8, 7], `(N, blocks, BLOCK)`; returns them and the scales `(N, blocks)`."""
    columns = np.pad(matrix.T, ((0, 0), (0, -matrix.shape[0] % BLOCK))).reshape(matrix.shape[1], -1, BLOCK)
    largest = np.take_along_axis(columns, np.argmax(np.abs(columns), axis=-1, keepdims=True), axis=-1)[..., 0]
    # The value of largest magnitude becomes exactly -8, as there is one more level below zero than above.
    scales = np.where(largest == 0, 1, largest / -8).astype("float32")
    return np.clip(np.rint(columns / scales[..., None]), -8, 7), scales


def _matrices(model, keep):
    """Name -> `(graph, tensor)` of the matrices that are not in `keep`."""
    from onnx import TensorProto

    return {
        tensor.name: (graph, tensor)
        for graph in graphs(model.graph)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.name not in keep
    }


def _add_packed(graph, tensor, precision, pack):
    """Adds the levels and scales that `pack` returns for a constant to its graph, and returns their names."""
    from onnx import numpy_helper

    names = (f"{tensor.name}__{precision}", f"{tensor.name}__scales")
    graph.initializer.extend(map(numpy_helper.from_array, pack(numpy_helper.to_array(tensor)), names))
    return names


QUANTIZERS = {"float16": float16, "int8": int8, "int4": int4}
