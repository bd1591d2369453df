"""TensorFlow Lite: one flatbuffer with one signature per task, shared weights and builtin operators only."""

import re
import tempfile

from keras_attn.export.formats import converter_compat
from keras_attn.export.formats.format import Format
from keras_attn.export.report import ExportError


class FormatWriter(Format):
    """Writes `model.tflite`."""

    name = runtime = "tflite"
    file_name = "model.tflite"
    requires = (("ai_edge_litert", "litert"),)
    text_requires = (("tensorflow_text", "text"), ("sentencepiece", "text"))

    precisions = ("float32", "float16", "int8", "int8_full")
    selective = ("float16", "int8")

    def slow_import(self, path):
        # Same rule as in `run_tflite.py`.
        return "tensorflow" if b"TFText>" in path.read_bytes() else None

    def check_names(self, task):
        from keras_attn.export.formats import signatures

        signatures.check_names(task, self.name)

    def convert(self, tasks, workspace):
        """Returns the tasks and a SavedModel of them, which the converter reads."""
        from keras_attn.export.formats import signatures

        saved_model = tempfile.mkdtemp(dir=workspace)
        with signatures.quiet_tensorflow():
            signatures.save(tasks, saved_model, format=self.name)
        return tasks, saved_model

    def write(self, converted, folder, precision="float32", keep=(), calibration=None):
        import tensorflow as tf

        from keras_attn.export.formats import signatures
        from keras_attn.export.formats.tflite import graphs, static_quantization, weights

        tasks, saved_model = converted
        names = [task.name for task in tasks]
        with signatures.quiet_tensorflow():
            converter = converter_compat.tflite_converter(saved_model, names)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            # Only reports of the converter read its metadata, for which it parses and writes the whole file once more.
            converter.exclude_conversion_metadata = True
            converter.allow_custom_ops = any(task.tokenizer is not None for task in tasks)
            if precision in self.selective:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            try:
                content = converter.convert()
                if precision == "int8_full":
                    # Only products with constant matrices are quantised. Scores, softmax and norms lose most in 8 bits,
                    # and masks stretch the range of scores so far that no resolution is left.
                    content = static_quantization.quantized(content, calibration, "FULLY_CONNECTED", keep)
            except Exception as error:
                lacking = _lacking(str(error))
                if not lacking:
                    raise
                raise ExportError(_refusal(names, lacking)) from error
        if keep and precision in self.selective:
            content = weights.restored(content, keep)
        if foreign := [name for name in graphs.operators(content) if _is_foreign(name)]:
            raise ExportError(_refusal(names, foreign))
        (folder / self.path(names[0], precision)).write_bytes(content)

    def attach(self, path, files, requests):
        from keras_attn.export.formats.tflite import metadata

        if files:
            path.write_bytes(metadata.packed(path.read_bytes(), files))

    def attached(self, path):
        from keras_attn.export.formats.tflite import metadata

        return metadata.unpacked(path)

    def operators(self, path):
        from keras_attn.export.formats.tflite import graphs

        return graphs.operators(path.read_bytes())

    def reads(self, path):
        return path.suffix == ".tflite"

    def contents(self, path):
        from keras_attn.export.formats.tflite import graphs

        content = path.read_bytes()
        return graphs.signatures(content), graphs.constants(content)


def _is_foreign(name):
    """Whether the Python runtimes cannot run an operator, or would run it on uninitialised variables."""
    if name.isupper():
        return name == "VAR_HANDLE"
    # tensorflow-text registers its own operators and one of TensorFlow's.
    return not name.startswith("TFText>") and name != "RaggedTensorToTensor"


def _lacking(message):
    """The operators that the converter's error message names."""
    lines = re.findall(r"^(?:TF Select|Custom) ops: (.+)$", message, flags=re.MULTILINE)
    return [name for line in lines for name in line.split(", ")]


def _refusal(names, lacking):
    lacking = ", ".join(sorted(lacking))
    return (
        f"tflite: {', '.join(names)} needs operators that TensorFlow Lite lacks: {lacking}; use `format='saved_model'`"
    )
