"""Export: a Keras model as SavedModel, TFLite and ONNX artefacts, each proven equal to the model it came from."""

from keras_attn.export.exporter import export
from keras_attn.export.report import ExportError, Report
from keras_attn.export.verification import verify

__all__ = ["ExportError", "Report", "export", "verify"]
