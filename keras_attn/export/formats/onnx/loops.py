"""What a loop carries from turn to turn without ever changing it."""

from keras_attn.export.formats.onnx.graphs import graphs, inner_graphs, rename


def hoist(model):
    """Lets the bodies of loops read what they never change from the graph round them, in place.

    tf2onnx hands a loop its weights as states. A runtime would copy them at every turn, and not know that they are
    constants which it can lay out once.
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
