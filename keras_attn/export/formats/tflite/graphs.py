"""Reads the constants, operators and signatures of a TensorFlow Lite file."""

import collections

from keras_attn.extras import require


def unpacked(content):
    """`(schema, model)`: the classes of the schema, and a file parsed into them."""
    schema = require("ai_edge_litert.schema_py_generated", "litert")
    return schema, schema.ModelT.InitFromPackedBuf(content)


def packed(schema, model):
    """The bytes of a model."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def operators(content):
    """A `collections.Counter` of the operators in all subgraphs; custom operators have their custom name."""
    schema, model = unpacked(content)
    builtin = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    # Files from old converters have small codes in the deprecated field.
    names = [
        code.customCode.decode() if code.customCode else builtin[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes
    ]
    return collections.Counter(names[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators)


def constants(content):
    """`{"name", "shape", "dtype", "bytes"}` of every constant; shared constants occur once."""
    schema, model = unpacked(content)
    found = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                found.setdefault(tensor.buffer, {**_described(schema, tensor, tensor.shape), "bytes": len(data)})
    return list(found.values())


def signatures(content):
    """Name -> `{"inputs", "outputs"}`, lists of `{"name", "shape", "dtype"}`; dynamic axes are -1."""
    schema, model = unpacked(content)
    found = {}
    for signature in model.signatureDefs or ():
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        sides = {}
        for side, maps in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            sides[side] = []
            for entry in maps or ():
                tensor = tensors[entry.tensorIndex]
                shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
                sides[side].append({**_described(schema, tensor, shape), "name": entry.name.decode()})
        found[signature.signatureKey.decode()] = sides
    return found


def _described(schema, tensor, shape):
    dtypes = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    shape = [] if shape is None else [int(size) for size in shape]
    return {"name": tensor.name.decode(), "shape": shape, "dtype": dtypes[tensor.type]}
