"""Layout of the constants of an ONNX model: each is stored once, in the form in which it is used."""

import hashlib

import numpy as np

from keras_attn.export.formats.onnx import weights
from keras_attn.export.formats.onnx.graphs import graphs, inner_graphs, rename

# Operators that are folded for all constants.
_LAYOUTS = ("Reshape", "Transpose")
# Operators that are not functions of their inputs alone.
_NOT_FOLDED = ("Bernoulli", "If", "Loop", "Multinomial", "RandomNormalLike", "RandomUniformLike", "Scan")


def lay_out(model, arrays):
    """Folds reshapes and transposes of constants, and all operations on weights that do not enlarge them, in place.

    tf2onnx folds constants only outside of loops, and no weights. Runtimes prepack constant operands of matrix products
    and quantise constants only. Equal results share one constant.

    Args:
        model: `onnx.ModelProto`.
        arrays: The weights outside of it, see `weights`; results of operations on them are added.
    """
    _Layout(model, arrays).fold(model.graph, {}, {})


class _Layout:
    def __init__(self, model, arrays):
        self.arrays, self.outermost = arrays, model.graph
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        self.taken = {name for graph in graphs(model.graph) for node in graph.node for name in node.output}
        # Weights and their forms, which all graphs see.
        self.weights, self.same_weights = {}, {}
        for tensor in filter(weights.is_reference, model.graph.initializer):
            self.weights[tensor.name] = tensor, model.graph
            self.same_weights[_content(tensor, arrays)] = tensor.name

    def fold(self, graph, outer, outer_same):
        """Folds in a graph; `outer` and `outer_same` are the constants of outer graphs, by name and by content."""
        own = [tensor for tensor in graph.initializer if tensor.name not in self.weights]
        known = outer | {tensor.name: (tensor, graph) for tensor in own}
        same = outer_same | {_content(tensor, self.arrays): tensor.name for tensor in own}
        kept, renamed = {value.name for value in graph.output}, {}
        for node in list(graph.node):
            for i, name in enumerate(node.input):
                node.input[i] = renamed.get(name, name)
            for inner in inner_graphs(node):
                rename(inner, renamed)
                self.fold(inner, known, same)
            constants = [self.weights.get(name) or known.get(name) for name in node.input if name]
            if not constants or None in constants or not kept.isdisjoint(node.output):
                continue
            of_weights = not self.weights.keys().isdisjoint(node.input)
            holder, places = constants[0][1], (known, same)
            if of_weights:
                holder, places = self.outermost, (self.weights, self.same_weights)
            elif node.op_type not in _LAYOUTS:
                continue
            values = [weights.value(tensor, self.arrays) for tensor, _ in constants]
            if (results := self._results(node, values)) is None:
                continue
            for output, array in zip(node.output, results, strict=True):
                renamed[output] = self._add(f"{output}/constant", array, holder, *places)
            graph.node.remove(node)

    def _results(self, node, values):
        """The outputs of a node, or None if they are larger than its inputs or not a function of them."""
        from onnx.reference import ReferenceEvaluator

        if node.domain or node.op_type in _NOT_FOLDED:
            return None
        names = [name for name in node.input if name]
        results = ReferenceEvaluator(node, opsets=self.opsets).run(None, dict(zip(names, values, strict=True)))
        size = sum(value.nbytes for value in values)
        return results if sum(result.nbytes for result in results) <= size else None

    def _add(self, name, array, holder, known, same):
        """Adds a constant to the graph `holder`, or finds an equal one; returns its name."""
        from onnx import numpy_helper

        # Sibling graphs may use the same name.
        while name in self.taken:
            name += "_"
        array = np.ascontiguousarray(array).reshape(array.shape)
        if known is self.weights:
            self.arrays[name], tensor = array, weights.reference(name, array)
        else:
            tensor = numpy_helper.from_array(array, name)
        if (content := _content(tensor, self.arrays)) not in same:
            holder.initializer.append(tensor)
            same[content], known[name] = name, (tensor, holder)
            self.taken.add(name)
        elif known is self.weights:
            del self.arrays[name]
        return same[content]


def share_transposed(model, arrays):
    """Stores a matrix and its transpose only once, in place, such as tied embeddings and output weights.

    Runtimes transpose the matrix when they load the model.
    """
    from onnx import helper

    # A matrix and its transpose are both in the outermost graph.
    graph, known, transposes = model.graph, {}, []
    for tensor in list(graph.initializer):
        if len(tensor.dims) != 2 or min(tensor.dims) < 2:
            continue
        array = weights.value(tensor, arrays)
        # A matrix and its transpose have the same diagonal.
        similar = known.setdefault((tensor.data_type, frozenset(tensor.dims), np.diagonal(array).tobytes()), [])
        original = next((name for name, other in similar if _is_transposed(other, array)), None)
        if original is None:
            similar.append((tensor.name, array))
            continue
        graph.initializer.remove(tensor)
        transposes.append(
            helper.make_node("Transpose", [original], [tensor.name], f"{tensor.name}/transpose", perm=[1, 0])
        )
    for node in reversed(transposes):
        graph.node.insert(0, node)


def _is_transposed(left, right):
    return left.shape == right.T.shape and left.tobytes() == right.T.tobytes()


def _content(tensor, arrays):
    if weights.is_reference(tensor):
        data = np.ascontiguousarray(arrays[tensor.name])
    else:
        data = tensor.raw_data or tensor.SerializeToString()
    return tensor.data_type, tuple(tensor.dims), hashlib.sha256(data).digest()
