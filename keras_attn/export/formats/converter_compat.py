"""Private names of the TFLite converter and of tf2onnx, and patches of their objects; see `keras_attn/compat.py`."""

import contextlib
import copy
import logging
import re
import types


def tflite_converter(saved_model, signatures):
    """A `tf.lite.TFLiteConverter` of a SavedModel; the public one loads it three times, for checks and locations."""
    from tensorflow.lite.python import lite
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    class Converter(lite.TFLiteSavedModelConverterV2):
        @lite._export_metrics
        def convert(self):
            return self._convert_from_saved_model(parse_saved_model(saved_model).meta_graphs[0].graph_def)

    Converter._set_original_model_type(lite.conversion_metadata_fb.ModelType.TF_SAVED_MODEL)
    return Converter(saved_model, {"serve"}, signatures)


def calibrate_tflite(content, cases):
    """Adds tensor ranges from `(signature, inputs)` cases to a `.tflite` file; the converter has no such step."""
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    return Calibrator(content).calibrate(lambda: iter(cases))


def quantize_tflite(content, float_ops, float_nodes):
    """Quantises a calibrated `.tflite` file to int8, except operators of the kinds `float_ops`, and those with the
    outputs `float_nodes`; the public converter has no exceptions."""
    import tensorflow as tf
    from tensorflow.lite.python import convert

    return convert.mlir_quantize(
        content,
        denylisted_ops=float_ops,
        denylisted_nodes=float_nodes or None,
        input_data_type=tf.float32,
        output_data_type=tf.float32,
    )


def frozen_graph(function, input_names, output_names):
    """The graph of a concrete function with its variables as constants, as tf2onnx's `from_function` makes it; that
    builds the graph twice more in between."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants
    from tf2onnx import tf_loader

    options = {"lower_control_flow": False, "aggressive_inlining": True}
    data = convert_to_constants._FunctionConverterDataInEager(function, **options)
    graph, _ = convert_to_constants._replace_variables_by_constants(data)
    with tf.Graph().as_default():
        return tf_loader.tf_optimize(input_names, output_names, tf_loader.fix_freezing_errors_part2(graph))


def tf2onnx_passes():
    """The passes of tf2onnx's optimizer; the public `optimize_graph` copies the graph before each, and hides errors."""
    from tf2onnx import optimizer

    makers = optimizer._get_optimizers()

    class TransposeOptimizer(makers["optimize_transpose"]):
        """That of tf2onnx looks for a transpose among all nodes again after each change."""

        is_prepared = False

        @property
        def nodes(self):
            nodes = super().nodes
            return [node for node in nodes if node.op.op_type == "Transpose"] if self.is_prepared else nodes

        def pre_optimize_action(self):
            self.is_prepared = False
            super().pre_optimize_action()
            self.is_prepared = True

    return [make() for make in {**makers, "optimize_transpose": TransposeOptimizer}.values()]


def run_pass(optimization, graph):
    """The graph after a pass; the public `optimize` also serialises the whole graph."""
    return optimization._optimize(graph)


@contextlib.contextmanager
def copying_conditions_alone():
    """Within the scope, tf2onnx copies the condition of a loop without the graphs around it, which hold all weights."""
    from tf2onnx.onnx_opset import controlflow

    def deepcopy(graph):
        return copy.deepcopy(graph, {id(graph.parent_graph): None})

    controlflow.copy = types.SimpleNamespace(deepcopy=deepcopy)
    try:
        yield
    finally:
        controlflow.copy = copy


@contextlib.contextmanager
def ops_that_tf2onnx_lacks():
    """Yields a set that collects the operators that tf2onnx cannot convert, which it only logs; the log is silenced."""

    class Listener(logging.Handler):
        def emit(self, record):
            found = re.search(r"Tensorflow op \[.*: (\S+)\] is not supported", record.getMessage())
            if found:
                operators.add(found.group(1))

    operators = set()
    logger = logging.getLogger("tf2onnx")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [Listener()], False
    logger.setLevel(logging.ERROR)
    try:
        yield operators
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
