"""Exports Keras models to SavedModel, TFLite and ONNX artefacts, each verified against the model."""

from typing import TYPE_CHECKING

from keras_attn.export.folder import staging  # noqa: F401  (re-exported)
from keras_attn.export.formats.format import Format
from keras_attn.export.registry import register_format, register_task
from keras_attn.export.report import ExportError, Report
from keras_attn.export.tasks.task import Task
from keras_attn.export.tensor_spec import TensorSpec
from keras_attn.lazy import lazy

# Lazy imports: module -> its public names.
_HOMES = {
    "exporter": "export",
    "inspection": "Inspection inspect",
    "quantization.quantization_report": "QuantizationReport quantization_report",
    "verification.verification": "verify",
}

if TYPE_CHECKING:
    from keras_attn.export.exporter import export
    from keras_attn.export.inspection import Inspection, inspect
    from keras_attn.export.quantization.quantization_report import QuantizationReport, quantization_report
    from keras_attn.export.verification.verification import verify
else:
    __getattr__, __dir__ = lazy(__name__, _HOMES)

__all__ = [
    "ExportError",
    "Format",
    "Inspection",
    "QuantizationReport",
    "Report",
    "Task",
    "TensorSpec",
    "export",
    "inspect",
    "quantization_report",
    "register_format",
    "register_task",
    "verify",
]
