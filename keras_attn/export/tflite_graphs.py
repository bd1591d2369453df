"""What the constants and signatures of a TensorFlow Lite file are."""

from keras_attn.extras import require


def constants(content):
    """`{"name", "shape", "dtype", "bytes"}` of every constant; one that subgraphs share is there once."""
    schema, model = _model(content)
    found = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                found.setdefault(tensor.buffer, {**_described(schema, tensor, tensor.shape), "bytes": len(data)})
    return list(found.values())


def signatures(content):
    """Name -> `{"inputs", "outputs"}`, lists of `{"name", "shape", "dtype"}`; a free axis is -1."""
    schema, model = _model(content)
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


def _model(content):
    schema = require("ai_edge_litert.schema_py_generated", "litert")
    return schema, schema.ModelT.InitFromPackedBuf(content)


def _described(schema, tensor, shape):
    dtypes = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    shape = [] if shape is None else [int(size) for size in shape]
    return {"name": tensor.name.decode(), "shape": shape, "dtype": dtypes[tensor.type]}
