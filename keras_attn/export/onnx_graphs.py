"""What the constants and operators of an ONNX model are, those inside loops included."""

import collections


def graphs(graph):
    """A graph and all graphs that its nodes hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs(inner)


def operators(model):
    """`collections.Counter`, operator -> how often it occurs."""
    return collections.Counter(node.op_type for graph in graphs(model.graph) for node in graph.node)


def constants(model):
    """Name -> `TensorProto` of every constant."""
    return {tensor.name: tensor for graph in graphs(model.graph) for tensor in graph.initializer}


def of_variables(model, variables):
    """The names of the constants that hold one of some Keras variables, reshaped or transposed as may be."""
    import numpy as np
    from onnx import numpy_helper

    wanted = set()
    for variable in variables:
        value = np.asarray(variable)
        wanted.add(value.tobytes())
        for axis in range(1, value.ndim):
            matrix = value.reshape(np.prod(value.shape[:axis], dtype=int), -1)
            wanted.add(np.ascontiguousarray(matrix.T).tobytes())
    found = constants(model).items()
    return {name for name, tensor in found if numpy_helper.to_array(tensor).tobytes() in wanted}
