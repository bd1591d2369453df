"""Traversal and changes of ONNX graphs, including those inside loops."""

import collections


def graphs(graph):
    """A graph and all graphs nested in its nodes."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from graphs(inner)


def inner_graphs(node):
    """The graphs inside a node, such as a loop body."""
    return [
        inner
        for attribute in node.attribute
        for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)
    ]


def remove_unused(model):
    """Removes unused nodes and constants, and the value infos of removed tensors."""
    found, is_done = list(graphs(model.graph)), False
    while not is_done:
        used = _used(model.graph)
        is_done = not sum(_delete(graph.node, [used.isdisjoint(node.output) for node in graph.node]) for graph in found)
    for graph in found:
        _delete(graph.initializer, [tensor.name not in used for tensor in graph.initializer])
        made = {name for node in graph.node for name in node.output}
        _delete(graph.value_info, [value.name not in made for value in graph.value_info])


def _delete(messages, stale):
    """Deletes the messages of a repeated field for which `stale` is True, and returns their number."""
    for i in reversed(range(len(stale))):
        if stale[i]:
            del messages[i]
    return sum(stale)


def _used(graph):
    """The names read by the nodes and outputs of a graph and of all nested graphs."""
    found = list(graphs(graph))
    names = {name for inner in found for node in inner.node for name in node.input}
    return names | {value.name for inner in found for value in inner.output}


def rename(graph, names):
    """Renames the inputs of all nodes of a graph and of nested graphs; `names` maps old to new names."""
    for inner in graphs(graph):
        for node in inner.node:
            for i, name in enumerate(node.input):
                node.input[i] = names.get(name, name)


def names_of(model):
    """The names of all tensors of a model."""
    found = list(graphs(model.graph))
    names = {name for graph in found for node in graph.node for name in (*node.input, *node.output)}
    return names | {value.name for graph in found for value in (*graph.input, *graph.output, *graph.initializer)}


def operators(model):
    """A `collections.Counter` of the operators."""
    return collections.Counter(node.op_type for graph in graphs(model.graph) for node in graph.node)


def constants(model):
    """Name -> `TensorProto` of every constant."""
    return {tensor.name: tensor for graph in graphs(model.graph) for tensor in graph.initializer}


def of_variables(model, variables):
    """The names of the constants that hold one of the Keras variables, possibly reshaped or transposed."""
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


def sort(graph):
    """Sorts the nodes of a graph and of nested graphs topologically; reads inside loop bodies count too."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    reads = [set(node.input).union(*map(_used, inner_graphs(node))) for node in graph.node]
    waits = [{makers[name] for name in names if name in makers} - {i} for i, names in enumerate(reads)]
    order = {}
    # Depth first without recursion: chains of nodes can exceed Python's recursion limit.
    for start in range(len(waits)):
        stack = [start]
        while stack:
            if left := sorted(i for i in waits[stack[-1]] if i not in order):
                stack += left
            else:
                order[stack.pop()] = None
    replace_nodes(graph, [graph.node[i] for i in order])
    for node in graph.node:
        for inner in inner_graphs(node):
            sort(inner)


def replace_nodes(graph, nodes):
    """Replaces the nodes of a graph by `nodes`, which may include some of its own."""
    nodes = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
