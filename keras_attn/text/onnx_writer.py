"""A tokenizer's text operators in ONNX, with operators of onnxruntime-extensions."""

from keras_attn.extras import require

# The highest opset that tf2onnx writes. Graphs can only be merged if their opsets and IR versions are equal.
OPSET = 18
IR_VERSION = 8
EXTENSIONS_DOMAIN = "ai.onnx.contrib"


def onnx_symbols(tokenizer, input_name="text", output_name="symbols"):
    """Builds the ONNX model that converts texts to the input of `tokenizer.ids_of_symbols`.

    All other names begin with `output_name`, so that `onnx.compose.merge_models` can join it with other models. It
    needs a session that has the library of onnxruntime-extensions registered, and can crash if TensorFlow was loaded
    before that library.

    Args:
        tokenizer: A `Tokenizer`.
        input_name: Name of the input, strings of shape `(B,)`.
        output_name: Name of the output, int32 symbols of shape `(B, S)`, right-padded with at least one -1.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ImportError: If onnx or sentencepiece is not installed.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.text.onnx_writer import onnx_symbols
    >>> model = onnx_symbols(CharacterTokenizer("abc "))
    >>> [node.op_type for node in model.graph.node][0]
    'SentencepieceTokenizer'
    """
    types = require("onnx", "onnx").TensorProto
    graph = _Graph(prefix=f"{output_name}/")
    no = graph.constant("no", types.BOOL, [1], [False])
    zero = graph.constant("zero", types.INT64, [1], [0])
    one = graph.constant("one", types.INT64, [1], [1])
    minus_one = graph.constant("minus_one", types.INT64, [1], [-1])
    scalar_zero = graph.constant("scalar_zero", types.INT64, [], [0])
    scalar_one = graph.constant("scalar_one", types.INT64, [], [1])
    alpha = graph.constant("alpha", types.FLOAT, [1], [0.0])
    padding = graph.constant("padding", types.INT32, [1], [-1])

    # All symbols in one row, and the B + 1 offsets of the texts in it.
    symbols, offsets = graph.node(
        "SentencepieceTokenizer",
        [input_name, zero, alpha, no, no, no],
        outputs=2,
        domain=EXTENSIONS_DOMAIN,
        model=tokenizer.operator_model(),
    )
    last = graph.constant("last", types.INT64, [1], [2**63 - 1])
    starts = graph.node("Unsqueeze", [graph.node("Slice", [offsets, zero, minus_one]), one])
    ends = graph.node("Unsqueeze", [graph.node("Slice", [offsets, one, last]), one])
    longest = graph.node("ReduceMax", [graph.node("Sub", [ends, starts])], keepdims=0)
    length = graph.node("Add", [longest, scalar_one])
    columns = graph.node("Unsqueeze", [graph.node("Range", [scalar_zero, length, scalar_one]), zero])
    positions = graph.node("Add", [starts, columns])
    # Positions beyond their text point to a -1 that is appended to the symbols.
    total = graph.node("Size", [symbols])
    positions = graph.node("Where", [graph.node("Less", [positions, ends]), positions, total])
    graph.node("Gather", [graph.node("Concat", [symbols, padding], axis=0), positions], outputs=[output_name])
    return graph.model("symbols", (input_name, types.STRING, ["B"]), (output_name, types.INT32, ["B", "S"]))


def onnx_strings(tokenizer, input_name="rows", output_name="text"):
    """Builds the ONNX model that converts the output of `tokenizer.text_of_ids` to texts.

    Names and sessions are as for `onnx_symbols`.

    Args:
        tokenizer: A `Tokenizer`.
        input_name: Name of the input, int32 row indices of the string table, of shape `(B, L)`.
        output_name: Name of the output, strings of shape `(B,)`.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ImportError: If onnx is not installed.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.text.onnx_writer import onnx_strings
    >>> model = onnx_strings(CharacterTokenizer("abc "))
    >>> [node.op_type for node in model.graph.node]
    ['Gather', 'StringJoin']
    """
    types = require("onnx", "onnx").TensorProto
    graph = _Graph(prefix=f"{output_name}/")
    strings = tokenizer.text_of_ids.strings
    table = graph.constant("table", types.STRING, [len(strings)], strings)
    axis = graph.constant("axis", types.INT64, [1], [1])
    separator = graph.constant("separator", types.STRING, [1], [b""])
    found = graph.node("Gather", [table, input_name])
    graph.node("StringJoin", [found, separator, axis], outputs=[output_name], domain=EXTENSIONS_DOMAIN)
    return graph.model("strings", (input_name, types.INT32, ["B", "L"]), (output_name, types.STRING, ["B"]))


class _Graph:
    """Collects nodes and constants whose names share a prefix."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.helper = require("onnx.helper", "onnx")
        self.nodes = []
        self.constants = []

    def constant(self, name, data_type, shape, values):
        self.constants.append(self.helper.make_tensor(self.prefix + name, data_type, shape, values))
        return self.prefix + name

    def node(self, op, inputs, *, outputs=1, domain="", **attributes):
        """Adds a node. `outputs` are the names of its outputs, or their number."""
        name = f"{self.prefix}{op}_{len(self.nodes)}"
        if isinstance(outputs, int):
            outputs = [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(self.helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def model(self, name, input_info, output_info):
        graph = self.helper.make_graph(
            self.nodes,
            name,
            [self.helper.make_tensor_value_info(*input_info)],
            [self.helper.make_tensor_value_info(*output_info)],
            self.constants,
        )
        opsets = [self.helper.make_opsetid("", OPSET), self.helper.make_opsetid(EXTENSIONS_DOMAIN, 1)]
        return self.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
