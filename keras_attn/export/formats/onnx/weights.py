"""The weights of an ONNX model, kept outside of its protocol buffers until it is written.

Every step of a conversion copies its messages, and a message is limited to 2 GiB. So an initializer may have no data
and the location `#`, as in `onnx.model_container`: its array is in a dict by name.
"""

import math
import sys

from keras_attn import compat
from keras_attn.export.formats.onnx.shapes import SMALL

# Field numbers in `onnx.proto`: `ModelProto.graph`, `GraphProto.initializer`, `TensorProto.raw_data`.
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
MARK = "#"
# Size in bytes from which `take_out` moves an initializer.
LARGE = 1024


def matrices(model):
    """The Keras variables of a model that are kept outside, by a name that is an argument; none without a model.

    tf2onnx turns the loop of an LSTM layer into one operator only if its weights are constants of the graph.
    """
    import keras

    if model is None:
        return {}
    layers = compat.layers_of(model) if isinstance(model, keras.Model) else ()
    recurrent = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    inside = {id(variable) for layer in recurrent for variable in layer.variables}
    variables = [v for v in model.variables if len(v.shape) > 1 and math.prod(v.shape) > SMALL and id(v) not in inside]
    return {f"keras_attn_weight_{i}": variable for i, variable in enumerate(variables)}


def replace_inputs(model, variables):
    """Turns the inputs that are variables into weights outside of a model, in place; returns their arrays.

    Args:
        model: `onnx.ModelProto`.
        variables: Dict from the names of inputs to Keras variables.
    """
    import keras
    import numpy as np

    from keras_attn.export.formats.onnx.graphs import names_of, rename

    graph, arrays, taken, renamed = model.graph, {}, names_of(model), {}
    for i in reversed(range(len(graph.input))):
        if (variable := variables.get(graph.input[i].name)) is not None:
            path = variable.path
            while path in taken:
                path += "_"
            taken.add(path)
            renamed[graph.input[i].name] = path
            arrays[path] = np.asarray(keras.ops.convert_to_tensor(variable))
            graph.initializer.append(reference(path, arrays[path]))
            del graph.input[i]
    rename(graph, renamed)
    return arrays


def reference(name, array):
    """An initializer without data for an array that is kept outside."""
    from onnx import helper, model_container

    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return model_container.make_large_tensor_proto(MARK, name, dtype, array.shape)


def is_reference(tensor):
    """Whether the data of an initializer is kept outside."""
    return any(entry.key == "location" and entry.value == MARK for entry in tensor.external_data)


def value(tensor, arrays):
    """The value of an initializer as an array."""
    from onnx import numpy_helper

    return arrays[tensor.name] if is_reference(tensor) else numpy_helper.to_array(tensor)


def embed(model, arrays):
    """Moves the weights into the model, in place."""
    for tensor in _references(model):
        tensor.CopyFrom(_without_data(tensor))
        tensor.raw_data = bytes(_bytes(arrays[tensor.name]))


def take_out(model, arrays):
    """Moves the larger initializers out of the model, in place; adds them to `arrays`."""
    from onnx import TensorProto, numpy_helper

    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= LARGE and tensor.data_type != TensorProto.STRING:
            arrays[tensor.name] = numpy_helper.to_array(tensor)
            tensor.CopyFrom(reference(tensor.name, arrays[tensor.name]))


def size(model, arrays):
    """The number of bytes of the model and its weights."""
    return model.ByteSize() + sum(arrays[tensor.name].nbytes for tensor in _references(model))


def save(model, arrays, path):
    """Writes the model and its weights to a file, weight by weight."""
    rest, tensors = _apart(model)
    graph = rest.graph.SerializeToString()
    rest.ClearField("graph")
    entries = [(_without_data(tensor).SerializeToString(), arrays[tensor.name]) for tensor in tensors]
    entries = [(head + _tag(RAW_DATA, array.nbytes), array) for head, array in entries]
    heads = [(_tag(INITIALIZER, len(head) + array.nbytes) + head, array) for head, array in entries]
    length = len(graph) + sum(len(head) + array.nbytes for head, array in heads)
    with open(path, "wb") as file:
        file.write(rest.SerializeToString() + _tag(GRAPH, length) + graph)
        for head, array in heads:
            file.write(head)
            file.write(_bytes(array))


def save_in_two(model, arrays, path):
    """Writes the model to a file, and its weights to another one, `<path>.data`."""
    import onnx

    rest, tensors = _apart(model)
    data = path.with_name(f"{path.name}.data")
    with open(data, "wb") as file:
        for tensor in tensors:
            array, stored = arrays[tensor.name], rest.graph.initializer.add()
            stored.CopyFrom(tensor)
            del stored.external_data[:]
            entry = {"location": data.name, "offset": file.tell(), "length": array.nbytes}
            for key, number in entry.items():
                stored.external_data.add(key=key, value=str(number))
            file.write(_bytes(array))
    onnx.save(rest, str(path))


def _references(model):
    return [tensor for tensor in model.graph.initializer if is_reference(tensor)]


def _apart(model):
    """A copy of the model without the initializers whose data is kept outside, and these."""
    copy = type(model)()
    copy.CopyFrom(model)
    kept = [tensor for tensor in model.graph.initializer if not is_reference(tensor)]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy, _references(model)


def _without_data(tensor):
    return type(tensor)(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def _tag(field, length):
    """The encoded header of a field of `length` bytes."""
    encoded = [field << 3 | 2]
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes([*encoded, length])


def _bytes(array):
    """The little-endian bytes of an array, without a copy on most machines."""
    import numpy as np

    array = np.ascontiguousarray(array)
    return (array if sys.byteorder == "little" else array.byteswap()).reshape(-1).view("uint8").data
