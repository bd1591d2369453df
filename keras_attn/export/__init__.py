"""Export: a Keras model as SavedModel, TFLite and ONNX artefacts, each proven equal to the model it came from."""

from keras_attn.export.exporter import export
from keras_attn.export.inspection import Inspection, inspect
from keras_attn.export.quantization.quantization_report import QuantizationReport, quantization_report
from keras_attn.export.report import ExportError, Report
from keras_attn.export.verification.verification import verify

__all__ = [
    "ExportError",
    "Inspection",
    "QuantizationReport",
    "Report",
    "export",
    "inspect",
    "quantization_report",
    "verify",
]
