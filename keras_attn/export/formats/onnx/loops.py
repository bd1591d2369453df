"""Hoisting of loop-invariant tensors out of ONNX loops."""

from keras_attn.export.formats.onnx.graphs import graphs, inner_graphs, rename


def hoist(model):
    """Turns loop states that never change into reads from the outer graph, in place.

    tf2onnx passes weights to a loop as states. Runtimes would copy them in every iteration, and could not prepack them
    as constants.
    """
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.op_type == "Loop":
                _hoist(graph, node)


def _hoist(graph, loop):
    [body] = inner_graphs(loop)
    same = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}

    def origin(name):
        while name in same:
            name = same[name]
        return name

    results = [origin(value.name) for value in body.output]
    kept = {value.name for value in graph.output}
    fixed = [
        i
        for i, value in enumerate(body.input[2:])
        if results[1 + i] == value.name and results.count(value.name) == 1 and loop.output[i] not in kept
    ]
    rename(body, {body.input[2 + i].name: loop.input[2 + i] for i in fixed})
    rename(graph, {loop.output[i]: loop.input[2 + i] for i in fixed})
    for i in reversed(fixed):
        del body.input[2 + i], body.output[1 + i], loop.input[2 + i], loop.output[i]
