"""ONNX: one file a task, at the highest opset that tf2onnx writes."""

import contextlib
import logging
import re

from keras_attn.export.report import ExportError

OPSET = 18
IR_VERSION = 8


class Emitter:
    """Writes `<task>.onnx`."""

    name = "onnx"
    requires = (("onnx", "onnx"), ("onnxruntime", "onnx"), ("tf2onnx", "onnx"))
    text_requires = (("onnxruntime_extensions", "onnx"), ("sentencepiece", "text"))

    def path(self, task_name):
        return f"{task_name}.onnx"

    def emit(self, tasks, folder):
        import onnx

        for task in tasks:
            model = _convert(task)
            if task.tokenizer is not None:
                model = _join_tokenizer(model, task.tokenizer)
            # Only the standard operators can be checked for shapes; those of onnxruntime-extensions are unknown.
            onnx.checker.check_model(model, full_check=task.tokenizer is None)
            onnx.save(model, str(folder / self.path(task.name)))

    def flex_ops(self, path):
        return 0


def _convert(task):
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader, tfonnx

    from keras_attn.export import signatures

    concrete = signatures.trace(task, cache_policy="select")
    inputs = [tensor for tensor in concrete.inputs if tensor.dtype != tf.resource]
    specs = tf.nest.flatten(concrete.structured_input_signature)
    names = {tensor.name: spec.name for tensor, spec in zip(inputs, specs, strict=True)}
    names |= {tensor.name: name for name, tensor in concrete.structured_outputs.items()}
    ends = {
        "input_names": [tensor.name for tensor in inputs],
        "output_names": [tensor.name for tensor in concrete.outputs],
    }
    frozen = tf_loader.from_function(concrete, **ends)
    with tf.Graph().as_default() as graph, _unsupported_ops() as unsupported:
        tf.import_graph_def(frozen, name="")
        converted = tfonnx.process_tf_graph(
            graph, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])}, tensors_to_rename=names, **ends
        )
        if unsupported:
            lacking = ", ".join(sorted(unsupported))
            raise ExportError(f"onnx: {task.name} needs operators that ONNX lacks: {lacking}")
        # Catching errors would copy the graph before each of some fifty passes, and hide what went wrong.
        model = optimizer.optimize_graph(converted, catch_errors=False).make_model(task.name)
    model.ir_version = IR_VERSION
    _name_axes(model.graph, task.inputs)
    return model


def _join_tokenizer(model, tokenizer):
    from onnx import compose

    from keras_attn.text.onnx_emitter import onnx_decoder, onnx_encoder

    name = model.graph.name
    encoder = onnx_encoder(tokenizer, "source", "source_ids")
    decoder = onnx_decoder(tokenizer, "tokens", "text")
    model = compose.merge_models(encoder, model, io_map=[("source_ids", "source_ids")])
    outputs = ["text", *(value.name for value in model.graph.output)]
    model = compose.merge_models(model, decoder, io_map=[("tokens", "tokens")], outputs=outputs)
    model.graph.name = name
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _name_axes(graph, inputs):
    """Names the dynamic axes, which tf2onnx calls `unk__NNN`."""
    has_target = any("target_length" in spec.axes for spec in inputs.values())
    axes = {value.name: inputs[value.name].axes for value in graph.input}
    for value in graph.output:
        # Runtimes take axes of one name to be equally long, so an output's length may not borrow one by chance.
        axes[value.name] = ("batch", "target_length" if has_target else f"{value.name}_length")
    for value in (*graph.input, *graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if not dimension.HasField("dim_value"):
                known = axes[value.name]
                dimension.dim_param = known[axis] if axis < len(known) else f"{value.name}_axis_{axis}"
    for value in [v for v in graph.value_info if "unk__" in str(v)]:
        graph.value_info.remove(value)


@contextlib.contextmanager
def _unsupported_ops():
    """Yields a set that fills with the operators that tf2onnx cannot convert; its log is kept quiet."""

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


def _erfc(context, node, name, args):
    """erfc(x) = 1 - erf(x), for the exact GELU."""
    import numpy as np

    dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    [source], [output] = node.input, node.output
    context.remove_node(node.name)
    one = context.make_const(f"{name}/one", np.float32(1)).output[0]
    erf = context.make_node("Erf", [source], name=f"{name}/erf", shapes=[shape], dtypes=[dtype]).output[0]
    context.make_node("Sub", [one, erf], outputs=[output], name=name, shapes=[shape], dtypes=[dtype])
