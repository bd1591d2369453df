"""Restores weights of a TensorFlow Lite file to float32.

The converter quantises all weights or none. Weights in dynamic-range int8 and float16 are plain constants, which can be
replaced after conversion.
"""

import math

import numpy as np

from keras_attn.export.formats.float_constants import FloatConstant
from keras_attn.export.formats.tflite import graphs
from keras_attn.export.report import ExportError

# A rounded weight is off by up to half a level, and its scale is rounded too.
ROUNDING = 0.51


def restored(content, variables):
    """Restores Keras variables in a `.tflite` file to float32.

    Args:
        content: The bytes of the file, with weights in dynamic-range int8 or float16.
        variables: Keras variables, or `FloatConstant`s, of which each task may use some.

    Returns:
        Bytes.

    Raises:
        ExportError: If a variable is not found among the constants.
    """
    schema, model = graphs.unpacked(content)
    forms = {variable.path: _forms(np.asarray(variable)) for variable in variables}
    found, buffers = set(), {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if (match := _match(schema, model, tensor, forms)) is None:
                continue
            path, value = match
            found.add(path)
            if tensor.type != schema.TensorType.FLOAT32:
                key = (path, value.shape, tensor.buffer)
                if key not in buffers:
                    buffers[key] = len(model.buffers)
                    model.buffers.append(schema.BufferT(data=np.frombuffer(value.tobytes(), "uint8")))
                tensor.buffer, tensor.type, tensor.quantization = buffers[key], schema.TensorType.FLOAT32, None
        _remove_widening(schema, model, graph)
    # The converter may remove a bias of zeros.
    weights = [v for v in variables if not isinstance(v, FloatConstant)]
    matrices = {v.path for v in weights if len(v.shape) > 1 and v.path.rpartition("/")[2] != "bias"}
    if lost := sorted(matrices - found):
        raise ExportError(f"tflite: {lost[0]} cannot stay in float32: the converter has transformed it")
    _clear_unused(model)
    return graphs.packed(schema, model)


def users(content, variables):
    """The names of the outputs of operators that read one of the variables in a float32 file."""
    schema, model = graphs.unpacked(content)
    forms = {variable.path: _forms(np.asarray(variable)) for variable in variables}
    found = []
    for graph in model.subgraphs:
        holds = [_match(schema, model, tensor, forms) is not None for tensor in graph.tensors]
        for operator in graph.operators:
            if any(holds[i] for i in operator.inputs if i >= 0):
                found += [graph.tensors[i].name.decode() for i in operator.outputs]
    return found


def _forms(value):
    """The layouts in which a constant may hold a variable, by shape."""
    forms = {value.shape: [value]}
    forms.setdefault((value.size,), []).append(value.reshape(-1))
    for axis in range(1, value.ndim):
        matrix = value.reshape(math.prod(value.shape[:axis]), -1)
        for form in (matrix, np.ascontiguousarray(matrix.T)):
            forms.setdefault(form.shape, []).append(form)
    return forms


def _match(schema, model, tensor, forms):
    """`(path, value)` of the variable that a tensor holds, or `None`."""
    data = model.buffers[tensor.buffer].data
    kinds = schema.TensorType
    dtypes = {kinds.INT8: "int8", kinds.FLOAT16: "float16", kinds.FLOAT32: "float32"}
    if tensor.type not in dtypes or data is None or not len(data) or tensor.shape is None:
        return None
    shape = tuple(int(size) for size in tensor.shape)
    candidates = [(path, form) for path, shapes in forms.items() for form in shapes.get(shape, ())]
    if not candidates:
        return None
    stored = np.asarray(data, "uint8").view(dtypes[tensor.type]).astype("float32").reshape(shape)
    tolerance = np.float32(0)
    if tensor.type == schema.TensorType.INT8:
        scales = np.asarray(tensor.quantization.scale, "float32")
        axis = [1] * len(shape)
        axis[tensor.quantization.quantizedDimension] = len(scales)
        scales = scales.reshape(axis)
        stored, tolerance = stored * scales, ROUNDING * scales
    elif tensor.type == schema.TensorType.FLOAT16:
        tolerance = np.maximum(np.abs(stored) * 2**-10, 1e-7)
    for path, value in candidates:
        if np.all(np.abs(stored - value) <= tolerance):
            return path, value
    return None


def _remove_widening(schema, model, graph):
    """Removes dequantisation of constants that are float32 again, and of rows gathered from them."""
    narrow = (schema.TensorType.INT8, schema.TensorType.FLOAT16)
    widened, kept = {}, []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        code = max(code.builtinCode, code.deprecatedBuiltinCode)
        source = graph.tensors[operator.inputs[0]] if len(operator.inputs) else None
        if source is not None and source.type == schema.TensorType.FLOAT32:
            if code == schema.BuiltinOperator.DEQUANTIZE:
                widened[operator.outputs[0]] = operator.inputs[0]
                continue
            for output in (graph.tensors[index] for index in operator.outputs):
                # A gather has the dtype of its table.
                if code == schema.BuiltinOperator.GATHER and output.type in narrow:
                    output.type, output.quantization = schema.TensorType.FLOAT32, None
        kept.append(operator)
    for operator in kept:
        operator.inputs = [widened.get(int(index), int(index)) for index in operator.inputs]
    graph.operators = kept
    graph.outputs = [widened.get(int(index), int(index)) for index in graph.outputs]


def _clear_unused(model):
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
