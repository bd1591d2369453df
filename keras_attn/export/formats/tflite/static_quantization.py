"""Full integer quantisation of a TensorFlow Lite file, with ranges that were measured on examples."""

import numpy as np

from keras_attn import compat
from keras_attn.export.formats.tflite import graphs

_LEAST_RANGE = 1e-5


def quantized(content, calibration, quantizes):
    """A `.tflite` file in which some operators compute in int8.

    Args:
        content: the bytes of a file in float32.
        calibration: cases by signature, `{name: [{input: array}]}`.
        quantizes: the name of the operator that computes in int8; all others stay in float.

    Returns:
        Bytes.
    """
    others = sorted(set(graphs.operators(content)) - {quantizes})
    return compat.quantize_tflite(_calibrated(content, calibration), others)


def _calibrated(content, calibration):
    """The file with the least and greatest value that each tensor of floats had."""
    # A calibrator resizes one input after the other, between which the shapes of two cases need not go together.
    groups = {}
    for name, cases in calibration.items():
        for case in cases:
            shapes = sorted((key, np.shape(value)) for key, value in case.items())
            groups.setdefault((name, *shapes), []).append((name, case))
    ranges, model = {}, None
    for samples in groups.values():
        schema, model = graphs.unpacked(compat.calibrate_tflite(content, samples))
        for place, tensor in _tensors(model):
            if (measured := tensor.quantization) is not None and measured.min is not None and len(measured.min):
                ranges.setdefault(place, []).append((measured.min[0], measured.max[0]))
    for place, tensor in _tensors(model):
        if place in ranges:
            low, high = min(low for low, _ in ranges[place]), max(high for _, high in ranges[place])
            # The calibrator gives what never was but zero, such as the product of a loop's initial state, a range that
            # is so small that the runtime refuses its scale.
            low, high = (low, high) if high - low > _LEAST_RANGE else (low - 1, high + 1)
            tensor.quantization = tensor.quantization or schema.QuantizationParametersT()
            tensor.quantization.min, tensor.quantization.max = [float(low)], [float(high)]
    return graphs.packed(schema, model)


def _tensors(model):
    """`((graph, tensor), tensor)` of a file, in order."""
    for i, graph in enumerate(model.subgraphs):
        for j, tensor in enumerate(graph.tensors):
            yield (i, j), tensor
