"""Describes the inputs, outputs and weights of an ONNX model."""

import math

from keras_attn.export.formats.onnx.graphs import constants


def signature(model):
    """`{"inputs", "outputs"}`, lists of `{"name", "shape", "dtype"}`, with names for dynamic axes."""
    return {"inputs": _described(model.graph.input), "outputs": _described(model.graph.output)}


def weights(model):
    """`{"name", "shape", "dtype", "bytes"}` of every constant."""
    return [
        {"name": name, "shape": list(tensor.dims), "dtype": _dtype(tensor.data_type), "bytes": _bytes(tensor)}
        for name, tensor in constants(model).items()
    ]


def _described(values):
    found = []
    for value in values:
        tensor = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim]
        found.append({"name": value.name, "shape": shape, "dtype": _dtype(tensor.elem_type)})
    return found


def _dtype(code):
    from onnx import TensorProto

    return {"float": "float32", "double": "float64"}.get(name := TensorProto.DataType.Name(code).lower(), name)


def _bytes(tensor):
    from onnx import TensorProto, helper

    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
