"""Pattern matching and rewriting of expressions in ONNX graphs.

A pattern is a nested tuple `(operator, operand, ...)`. An operand is a pattern, a string, which matches any tensor, but
the same one at every occurrence, or a float, which matches a constant of that value. `Add` and `Mul` match in any
order.
"""

import itertools
import math

from keras_attn.export.formats.onnx import graphs
from keras_attn.export.formats.onnx.weights import is_reference

_COMMUTATIVE = ("Add", "Mul")
_SERIALS = itertools.count()


class Scope:
    """Producers, constants and shapes of the tensors visible in a graph, including those of outer graphs.

    Args:
        graph: `onnx.GraphProto`.
        outer: The `Scope` of the enclosing graph, or None.
    """

    def __init__(self, graph, outer=None):
        self.graph = graph
        self.producers = dict(outer.producers) if outer else {}
        self._constants = dict(outer._constants) if outer else {}
        self._shapes = dict(outer._shapes) if outer else {}
        self._added, self._pending = {}, []
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                self._shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
        for tensor in graph.initializer:
            self._constants[tensor.name] = tensor
        for node in graph.node:
            self.producers.update(dict.fromkeys(node.output, node))
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t

    def shape(self, name):
        """The shape as a tuple with None for unknown axes; None if the rank is unknown."""
        tensor = self._constants.get(name)
        return self._shapes.get(name) if tensor is None else tuple(tensor.dims)

    def constant(self, name):
        """The value of a constant as an array, or None, also for a weight that is kept outside of the model."""
        from onnx import numpy_helper

        tensor = self._constants.get(name)
        return None if tensor is None or is_reference(tensor) else numpy_helper.to_array(tensor)

    def scalar(self, name):
        """The value of a constant whose elements are all equal, or None."""
        value = self.constant(name)
        is_number = value is not None and value.dtype.kind in "fi" and value.size
        return float(value.flat[0]) if is_number and (value == value.flat[0]).all() else None

    def match(self, pattern, name):
        """Matches `pattern` at the tensor `name`: returns `{string: tensor name}`, or None."""
        return next(self._matches(pattern, name, {}), None)

    def match_any(self, patterns, name):
        """The first match of several patterns, or None."""
        return next((found for pattern in patterns if (found := self.match(pattern, name))), None)

    def add(self, operator, *inputs, **attributes):
        """Adds a node before the current one, or reuses an identical added one; returns the name of its output."""
        key = (
            operator,
            inputs,
            tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in attributes.items())),
        )
        if key not in self._added:
            self._added[key] = f"{operator}__{next(_SERIALS)}"
            self._insert(operator, inputs, self._added[key], attributes)
        return self._added[key]

    def new_constant(self, value):
        """Adds an array as a constant and returns its name."""
        from onnx import numpy_helper

        key = value.dtype.str, value.shape, value.tobytes()
        if key not in self._added:
            name = self._added[key] = f"constant__{next(_SERIALS)}"
            self._constants[name] = numpy_helper.from_array(value, name)
            self.graph.initializer.append(self._constants[name])
        return self._added[key]

    def rewrite(self, rules):
        """Applies the rules to each node of the graph; see `rewrite`."""
        nodes = list(self.graph.node)
        del self.graph.node[:]
        for node in nodes:
            for rule in rules:
                if len(node.output) == 1 and (found := rule(self, node.output[0])) is not None:
                    operator, inputs, attributes = found
                    node = self._insert(operator, inputs, node.output[0], attributes)
                    break
            else:
                self._pending.append(node)
            self.graph.node.extend(self._pending)
            self._pending = []

    def _insert(self, operator, inputs, output, attributes):
        from onnx import helper

        node = helper.make_node(operator, list(inputs), [output], f"{output}__{operator}", **attributes)
        self._pending.append(node)
        self.producers[output] = node
        return node

    def _matches(self, pattern, name, bound):
        if isinstance(pattern, str):
            if bound.get(pattern, name) == name:
                yield {**bound, pattern: name}
            return
        if isinstance(pattern, float):
            value = self.scalar(name)
            if value is not None and math.isclose(value, pattern, rel_tol=1e-6):
                yield bound
            return
        operator, *operands = pattern
        node = self.producers.get(name)
        if node is None or node.op_type != operator or node.domain or len(node.input) != len(operands):
            return
        orders = itertools.permutations(node.input) if operator in _COMMUTATIVE else [node.input]
        for inputs in orders:
            yield from self._all(operands, inputs, bound)

    def _all(self, operands, inputs, bound):
        if not operands:
            yield bound
            return
        for further in self._matches(operands[0], inputs[0], bound):
            yield from self._all(operands[1:], inputs[1:], further)


def rewrite(model, rules):
    """Applies rules to all graphs of a model in place, then removes unused nodes and constants.

    Args:
        model: `onnx.ModelProto`.
        rules: Functions of `(scope, name)`. Each returns the `(operator, inputs, attributes)` that replace the node of
            the tensor `name`, or None to keep it.
    """

    def visit(graph, outer):
        scope = Scope(graph, outer)
        scope.rewrite(rules)
        for node in graph.node:
            for inner in graphs.inner_graphs(node):
                visit(inner, scope)

    visit(model.graph, None)
    graphs.remove_unused(model)
