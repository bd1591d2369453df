"""What must hold of an ONNX file whatever the runtime, some of which stumble only in some versions."""

import numpy as np
import onnx

from keras_attn.export.folder import manifest
from keras_attn.export.formats.onnx import graphs


def check_axes(folder, task, path=None):
    """Axes of one name are equally long in all stored cases of a task, and no two inputs' axes by chance."""
    graph = onnx.load(folder / (path or f"{task}.onnx")).graph
    with np.load(folder / manifest.cases_name(task), allow_pickle=False) as stored:
        shapes = {name: stored[name].shape for name in stored.files}
    for case in {name.split("/")[1] for name in shapes if name.startswith("inputs/")}:
        sizes = {}
        for side, values in (("inputs", graph.input), ("outputs", graph.output)):
            for value in values:
                shape = shapes[f"{side}/{case}/{value.name}"]
                for dimension, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                    if dimension.dim_param:
                        sizes.setdefault(dimension.dim_param, set()).add(size)
        assert all(len(found) == 1 for found in sizes.values()), (case, sizes)
        yield {name: found.pop() for name, found in sizes.items()}


def empty_constants(model):
    """Names of the matrices without elements, whose sums with others onnxruntime 1.24 takes for columns."""
    return [name for name, tensor in graphs.constants(model).items() if 0 in tensor.dims and len(tensor.dims) > 1]
