"""Layout of the constants of an ONNX model: each is stored once, in the form in which it is used."""

import hashlib

import numpy as np

from keras_attn.export.formats.onnx.graphs import graphs, inner_graphs, rename


def lay_out(model):
    """Folds reshapes and transposes of constants, in place.

    tf2onnx does so only outside of loops. Runtimes prepack constant operands of matrix products, and only constants can
    be quantised. Equal results share one constant.
    """
    _lay_out(model.graph, {}, {name for graph in graphs(model.graph) for node in graph.node for name in node.output})


def _lay_out(graph, outer, taken):
    from onnx import numpy_helper

    # Name -> (constant, the graph that holds it), including those of outer graphs.
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
            # Sibling graphs may use the same name.
            while tensor.name in taken:
                tensor.name += "_"
            holder.initializer.append(tensor)
            same[content], known[tensor.name] = tensor.name, (tensor, holder)
            taken.add(tensor.name)
        renamed[node.output[0]] = same[content]
        graph.node.remove(node)


def share_transposed(model):
    """Stores a matrix and its transpose only once, in place, such as tied embeddings and output weights.

    Runtimes transpose the matrix when they load the model.
    """
    from onnx import helper, numpy_helper

    # A matrix and its transpose are both in the outermost graph.
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
    # Zero keeps the size of the axis.
    return array.reshape([array.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _transposed(node, array):
    return array.transpose(next((attribute.ints for attribute in node.attribute), None))


_LAYOUTS = {"Reshape": _reshaped, "Transpose": _transposed}


def _content(tensor):
    data = tensor.raw_data or tensor.SerializeToString()
    return tensor.data_type, tuple(tensor.dims), hashlib.sha256(data).digest()
