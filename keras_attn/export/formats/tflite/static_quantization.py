"""Full integer quantisation of a TensorFlow Lite file with calibrated ranges."""

import numpy as np

from keras_attn.export.formats import converter_compat
from keras_attn.export.formats.tflite import graphs, weights

_LEAST_RANGE = 1e-5


def quantized(content, calibration, quantizes, keep=()):
    """Quantises one kind of operator in a `.tflite` file to int8.

    Args:
        content: The bytes of a float32 file.
        calibration: Cases by signature, `{name: [{input: array}]}`.
        quantizes: Name of the operator to quantise; all others stay in float32.
        keep: Variables or constants with which the operator stays in float32, too.

    Returns:
        Bytes.
    """
    others = sorted(set(graphs.operators(content)) - {quantizes})
    nodes = weights.users(content, keep) if keep else []
    return converter_compat.quantize_tflite(_calibrated(content, calibration), others, nodes)


def _calibrated(content, calibration):
    """Adds the minimum and maximum of each float tensor to the file."""
    # The calibrator resizes inputs one by one, so cases of different shapes need separate calibrators.
    groups = {}
    for name, cases in calibration.items():
        for case in cases:
            shapes = sorted((key, np.shape(value)) for key, value in case.items())
            groups.setdefault((name, *shapes), []).append((name, case))
    ranges, model = {}, None
    for samples in groups.values():
        schema, model = graphs.unpacked(converter_compat.calibrate_tflite(content, samples))
        for place, tensor in _tensors(model):
            if (measured := tensor.quantization) is not None and measured.min is not None and len(measured.min):
                ranges.setdefault(place, []).append((measured.min[0], measured.max[0]))
    for place, tensor in _tensors(model):
        if place in ranges:
            low, high = min(low for low, _ in ranges[place]), max(high for _, high in ranges[place])
            # For tensors that were always zero, such as products of a loop's initial state, the calibrated range is too
            # small for a valid scale.
            low, high = (low, high) if high - low > _LEAST_RANGE else (low - 1, high + 1)
            tensor.quantization = tensor.quantization or schema.QuantizationParametersT()
            tensor.quantization.min, tensor.quantization.max = [float(low)], [float(high)]
    return graphs.packed(schema, model)


def _tensors(model):
    """`((graph index, tensor index), tensor)` of a file, in order."""
    for i, graph in enumerate(model.subgraphs):
        for j, tensor in enumerate(graph.tensors):
            yield (i, j), tensor
