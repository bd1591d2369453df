"""How the constants of an ONNX model lie: in the form in which they are used, and each of them once."""

import hashlib

import numpy as np

from keras_attn.export.formats.onnx.graphs import graphs, inner_graphs, rename


def lay_out(model):
    """Lays out once, in place, the constants that are reshaped or transposed whenever the model runs.

    tf2onnx does so outside of loops alone. A runtime prepares the constants of its products, and only a constant can be
    quantised. One that is wanted in the same form elsewhere is the same one.
    """
    _lay_out(model.graph, {}, {name for graph in graphs(model.graph) for node in graph.node for name in node.output})


def _lay_out(graph, outer, taken):
    from onnx import numpy_helper

    # Name -> (constant, the graph that holds it); those of the graphs round it as well.
    known = outer | {tensor.name: (tensor, graph) for tensor in graph.initializer}
    same = {_content(tensor): name for name, (tensor, _) in known.items()}
    kept, renamed = {value.name for value in graph.output}, {}
    for node in list(graph.node):
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        for inner in inner_graphs(node):
            rename(inner, renamed)
            _lay_out(inner, known, taken)
        layout = _LAYOUTS.get(node.op_type)
        if layout is None or node.output[0] in kept or not all(name in known for name in node.input):
            continue
        constant, holder = known[node.input[0]]
        others = [numpy_helper.to_array(known[name][0]) for name in node.input[1:]]
        array = np.ascontiguousarray(layout(node, numpy_helper.to_array(constant), *others))
        tensor = numpy_helper.from_array(array, f"{node.output[0]}/constant")
        content = _content(tensor)
        if content not in same:
            # Graphs side by side may have used the same name.
            while tensor.name in taken:
                tensor.name += "_"
            holder.initializer.append(tensor)
            same[content], known[tensor.name] = tensor.name, (tensor, holder)
            taken.add(tensor.name)
        renamed[node.output[0]] = same[content]
        graph.node.remove(node)


def share_transposed(model):
    """Keeps a matrix once, in place, of which the transpose is a constant too, as a tied table and output are.

    A runtime transposes it when it loads the model.
    """
    from onnx import helper, numpy_helper

    # Matrices of which one is another's transpose lie in one graph, round all loops.
    graph, known, transposes = model.graph, {}, []
    for tensor in list(graph.initializer):
        if len(tensor.dims) != 2 or min(tensor.dims) < 2:
            continue
        turned = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(tensor).T))
        if (original := known.get(_content(turned))) is None:
            known[_content(tensor)] = tensor.name
            continue
        graph.initializer.remove(tensor)
        transposes.append(
            helper.make_node("Transpose", [original], [tensor.name], f"{tensor.name}/transpose", perm=[1, 0])
        )
    for node in reversed(transposes):
        graph.node.insert(0, node)


def _reshaped(node, array, shape):
    # Zero stands for the size that the axis has.
    return array.reshape([array.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _transposed(node, array):
    return array.transpose(next((attribute.ints for attribute in node.attribute), None))


_LAYOUTS = {"Reshape": _reshaped, "Transpose": _transposed}


def _content(tensor):
    data = tensor.raw_data or tensor.SerializeToString()
    return tensor.data_type, tuple(tensor.dims), hashlib.sha256(data).digest()
