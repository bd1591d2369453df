"""A character tokenizer as ONNX graphs of onnxruntime-extensions' text operators."""

from keras_attn.extras import require
from keras_attn.text.character_tokenizer import CharacterTokenizer

# The highest opset that tf2onnx writes: graphs are merged only where their opsets and IR versions are equal.
OPSET = 18
IR_VERSION = 8
EXTENSIONS_DOMAIN = "ai.onnx.contrib"


def onnx_encoder(tokenizer: CharacterTokenizer, input_name: str = "text", output_name: str = "ids"):
    """Builds the ONNX model that encodes as `tokenizer` does.

    Its names other than the two given begin with `output_name`, so that `onnx.compose.merge_models` joins it
    with other models. It runs in a session that has onnxruntime-extensions' library registered, and can crash
    where TensorFlow was loaded before that library.

    Args:
        tokenizer: A `CharacterTokenizer`.
        input_name: Name of the input: strings of shape `(B,)`.
        output_name: Name of the output: int32 ids of shape `(B, L)`, where `L` is that of the longest text in
            the batch, and 1 where all are empty.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ImportError: If onnx or sentencepiece is not installed.

    Example:
        >>> model = onnx_encoder(CharacterTokenizer("abc "))
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
    pad = graph.constant("pad", types.INT32, [1], [tokenizer.pad_id])

    # All ids in one row, and the B + 1 offsets between which each text's lie.
    ids, offsets = graph.node(
        "SentencepieceTokenizer",
        [input_name, zero, alpha, no, no, no],
        outputs=2,
        domain=EXTENSIONS_DOMAIN,
        model=tokenizer.sentencepiece_model(),
    )
    last = graph.constant("last", types.INT64, [1], [2**63 - 1])
    starts = graph.node("Unsqueeze", [graph.node("Slice", [offsets, zero, minus_one]), one])
    ends = graph.node("Unsqueeze", [graph.node("Slice", [offsets, one, last]), one])
    longest = graph.node("ReduceMax", [graph.node("Sub", [ends, starts])], keepdims=0)
    length = graph.node("Max", [longest, scalar_one])
    columns = graph.node("Unsqueeze", [graph.node("Range", [scalar_zero, length, scalar_one]), zero])
    positions = graph.node("Add", [starts, columns])
    # One pad behind the ids is what every position beyond its text points at.
    total = graph.node("Size", [ids])
    positions = graph.node("Where", [graph.node("Less", [positions, ends]), positions, total])
    graph.node("Gather", [graph.node("Concat", [ids, pad], axis=0), positions], outputs=[output_name])
    return graph.model("encode", (input_name, types.STRING, ["B"]), (output_name, types.INT32, ["B", "L"]))


def onnx_decoder(tokenizer: CharacterTokenizer, input_name: str = "ids", output_name: str = "text"):
    """Builds the ONNX model that decodes as `tokenizer` does.

    Its names other than the two given begin with `output_name`, so that `onnx.compose.merge_models` joins it
    with other models. It runs in a session that has onnxruntime-extensions' library registered, and can crash
    where TensorFlow was loaded before that library.

    Args:
        tokenizer: A `CharacterTokenizer`.
        input_name: Name of the input: int32 ids of shape `(B, L)`.
        output_name: Name of the output: strings of shape `(B,)`.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ImportError: If onnx is not installed.

    Example:
        >>> model = onnx_decoder(CharacterTokenizer("abc "))
        >>> [node.op_type for node in model.graph.node][-1]
        'StringJoin'
    """
    types = require("onnx", "onnx").TensorProto
    graph = _Graph(prefix=f"{output_name}/")
    end = graph.constant("end", types.INT32, [], [tokenizer.end_id])
    pad = graph.constant("pad", types.INT32, [], [tokenizer.pad_id])
    axis = graph.constant("axis", types.INT64, [1], [1])
    zero = graph.constant("zero", types.INT32, [], [0])
    separator = graph.constant("separator", types.STRING, [1], [b""])
    characters = [character.encode() for character in tokenizer.id_to_character]
    table = graph.constant("table", types.STRING, [len(characters)], characters)

    is_end = graph.node("Cast", [graph.node("Equal", [input_name, end])], to=types.INT32)
    ended = graph.node("Greater", [graph.node("CumSum", [is_end, axis]), zero])
    ids = graph.node("Where", [ended, pad, input_name])
    strings = graph.node("Gather", [table, ids])
    graph.node("StringJoin", [strings, separator, axis], outputs=[output_name], domain=EXTENSIONS_DOMAIN)
    return graph.model("decode", (input_name, types.INT32, ["B", "L"]), (output_name, types.STRING, ["B"]))


class _Graph:
    """Collects nodes and constants under one prefix."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.helper = require("onnx.helper", "onnx")
        self.nodes = []
        self.constants = []

    def constant(self, name, data_type, shape, values):
        self.constants.append(self.helper.make_tensor(self.prefix + name, data_type, shape, values))
        return self.prefix + name

    def node(self, op, inputs, *, outputs=1, domain="", **attributes):
        """Adds a node whose outputs have the names given, or that many names of their own."""
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
