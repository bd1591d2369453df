"""Shapes of the tensors in an ONNX graph."""

import math

# Constants of up to this many elements may be shapes.
SMALL = 256


def note(graph, converted):
    """Adds the shapes of inner tensors that tf2onnx knows, for the rules in `fusion`."""
    from onnx import helper

    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for name in set(node.output) - outputs:
            shape, dtype = converted.get_shape(name), converted.get_dtype(name)
            if shape is not None and dtype:
                axes = [None if size < 0 else size for size in shape]
                graph.value_info.append(helper.make_tensor_value_info(name, dtype, axes))
        bodies = converted.contained_graphs.get(node.name, {})
        for attribute in node.attribute:
            if attribute.name in bodies:
                note(attribute.g, bodies[attribute.name])


def name_proven(model, names):
    """Names the dynamic output axes that, by ONNX shape inference, equal an input axis.

    Args:
        model: An `onnx.ModelProto` with named input axes.
        names: The names that an output axis may get.
    """
    from onnx import shape_inference

    sketch = _sketch(model)
    for value in sketch.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if not dimension.HasField("dim_value"):
                dimension.Clear()
    inferred = shape_inference.infer_shapes(sketch, data_prop=True).graph.output
    for value, found in zip(model.graph.output, inferred, strict=True):
        dimensions = value.type.tensor_type.shape.dim, found.type.tensor_type.shape.dim
        for dimension, proven in zip(*dimensions, strict=True):
            if not dimension.HasField("dim_value") and proven.dim_param in names:
                dimension.dim_param = proven.dim_param


def _sketch(model):
    """A copy of the model in which weights are inputs, as only their shapes matter."""
    from onnx import ModelProto, helper

    graph = model.graph
    weights = [tensor for tensor in graph.initializer if _size(tensor) > SMALL]
    sketch = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    sketch.graph.name = graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(sketch.graph, field).extend(getattr(graph, field))
    sketch.graph.initializer.extend(tensor for tensor in graph.initializer if _size(tensor) <= SMALL)
    for tensor in weights:
        sketch.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return sketch


def _size(tensor):
    return math.prod(tensor.dims)
