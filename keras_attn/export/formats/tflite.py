"""TensorFlow Lite: one flatbuffer, one signature a task, weights shared, builtin operators only."""

import collections
import re
import tempfile
from pathlib import Path

from keras_attn.export.precisions import suffixed
from keras_attn.export.report import ExportError
from keras_attn.extras import require


class Emitter:
    """Writes `model.tflite`."""

    name = runtime = "tflite"
    requires = (("ai_edge_litert", "litert"),)
    text_requires = (("tensorflow_text", "text"), ("sentencepiece", "text"))

    precisions = ("float32", "float16", "int8", "int8_full")
    selective = ("float16", "int8")
    int8_levels = 127

    def path(self, task_name, precision="float32"):
        return suffixed("model.tflite", precision)

    def convert(self, tasks, workplace):
        """The tasks, and a SavedModel of theirs: the converter starts from one."""
        from keras_attn.export import signatures

        saved_model = tempfile.mkdtemp(dir=workplace)
        with signatures.quiet_tensorflow():
            signatures.save(tasks, saved_model, format=self.name)
        return tasks, saved_model

    def write(self, converted, folder, precision="float32", keep=(), calibration=None):
        import tensorflow as tf

        from keras_attn.export import signatures, tflite_weights

        tasks, saved_model = converted
        names = [task.name for task in tasks]
        with signatures.quiet_tensorflow():
            converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=names)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.allow_custom_ops = any(task.tokenizer is not None for task in tasks)
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            try:
                if precision == "int8_full":
                    content = _full_int8(converter, calibration)
                else:
                    content = converter.convert()
            except Exception as error:
                lacking = _lacking(str(error))
                if not lacking:
                    raise
                raise ExportError(_refusal(names, lacking)) from error
        if keep and precision != "float32":
            content = tflite_weights.restored(content, keep)
        path = folder / self.path(names[0], precision)
        path.write_bytes(content)
        foreign = [name for name in operators(path) if _is_foreign(name)]
        if foreign:
            raise ExportError(_refusal(names, foreign))

    def operators(self, path):
        return operators(path)

    def reads(self, path):
        return path.suffix == ".tflite"

    def contents(self, path):
        from keras_attn.export import tflite_graphs

        content = path.read_bytes()
        return tflite_graphs.signatures(content), tflite_graphs.constants(content)


def _full_int8(converter, calibration):
    """Products with constant matrices on int8 inputs and outputs whose ranges were measured; all else in float.

    Scores, softmax and norms lose most in 8 bits, and masks stretch the range of the scores to where nothing is left.
    """
    import tensorflow as tf
    from tensorflow.lite.python import convert

    def dataset():
        for name, cases in calibration.items():
            yield from ((name, case) for case in cases)

    converter.representative_dataset = dataset
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(calibrated)
        file.flush()
        others = sorted(set(operators(file.name)) - {"FULLY_CONNECTED"})
    return convert.mlir_quantize(
        calibrated, denylisted_ops=others, input_data_type=tf.float32, output_data_type=tf.float32
    )


def operators(path):
    """How often each operator occurs in a `.tflite` file, all subgraphs together.

    Args:
        path: the file.

    Returns:
        `collections.Counter`, operator name -> count; a custom operator goes by its own name.
    """
    schema = require("ai_edge_litert.schema_py_generated", "litert")
    model = schema.Model.GetRootAs(Path(path).read_bytes(), 0)
    builtin = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    names = []
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        custom = code.CustomCode()
        # Files made by old converters keep small codes in the deprecated field.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        names.append(custom.decode() if custom else builtin[number])
    counts = collections.Counter()
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        counts.update(names[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength()))
    return counts


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
    return f"tflite: {', '.join(names)} needs operators that TensorFlow Lite lacks: {', '.join(sorted(lacking))}"
