"""ONNX: one file per task, in the highest opset that tf2onnx supports."""

import copy
import types

from keras_attn.export import registry
from keras_attn.export.formats import converter_compat
from keras_attn.export.formats.format import Format
from keras_attn.export.precisions import suffixed
from keras_attn.export.report import ExportError
from keras_attn.export.tasks.text_task import TextTask
from keras_attn.export.tensor_spec import TensorSpec

OPSET = 18
IR_VERSION = 8
# File name in the folder of a task with companion files.
MODEL = "model.onnx"
# Size in bytes from which weights are stored in a separate file: a protobuf message is limited to 2 GiB.
EXTERNAL_FROM = 2**31 - 2**24


class FormatWriter(Format):
    """Writes `<task>.onnx`."""

    name = runtime = "onnx"
    # Suffix that distinguishes files of this format from others of the same runtime.
    variant = ""
    requires = (("onnx", "onnx"), ("onnxruntime", "onnx"), ("tf2onnx", "onnx"))
    text_requires = (("onnxruntime_extensions", "onnx"), ("sentencepiece", "text"))

    precisions = ("float32", "float16", "int8", "int4")
    selective = ("float16", "int8", "int4")
    # Half of the range, see `quantization.int8`.
    int8_levels = 64

    def path(self, task_name, precision="float32"):
        # A task with companion files is a folder.
        is_folder = hasattr(registry.load("tasks", task_name), "companions")
        name = f"{task_name}{self.variant}"
        return suffixed(name if is_folder else f"{name}.onnx", precision)

    def check_names(self, task):
        """Raises a ValueError if a name would occur twice in the graph, or an output has no name."""
        for name in getattr(task, "output_names", ()):
            if not name:
                raise ValueError(
                    f"`model` must have named outputs, as {self.name} requires; return them in a dict by name. "
                    f"Received: {name!r}"
                )
            if name in task.inputs:
                raise ValueError(
                    f"`model` must not have outputs with the names of inputs, as names are unique in {self.name}; "
                    f"return them in a dict under other names. Received: {name!r}"
                )

    def convert(self, tasks, workspace):
        """Returns `(task, model, arrays)` of each task: weights are in `arrays`, see `weights`."""
        return [(task, *_convert(task if task.tokenizer is None else TextTask(task))) for task in tasks]

    def write(self, converted, folder, precision="float32", keep=(), calibration=None):
        import onnx

        from keras_attn.export.formats.onnx import graphs, layouts, quantization, weights

        for task, original, arrays in converted:
            model, arrays = copy.deepcopy(original), dict(arrays)
            if precision in ("float32", "float16"):
                # Integer formats have a scale per column, so transposes differ.
                layouts.share_transposed(model, arrays)
            if precision != "float32":
                weights.embed(model, arrays)
                quantize = quantization.QUANTIZERS[precision]
                model = quantize(model, frozenset(graphs.of_variables(model, keep)))
            if task.tokenizer is not None:
                model = _join_tokenizer(model, task)
            self.finish(model)
            for graph in graphs.graphs(model.graph):
                del graph.value_info[:]
            # Shapes can only be checked for standard operators, not for those of onnxruntime-extensions.
            standard = task.tokenizer is None and precision in ("float32", "float16")
            path = folder / self.path(task.name, precision)
            if hasattr(task, "companions"):
                path.mkdir()
                for name, text in task.companions().items():
                    (path / name).write_text(text, encoding="utf-8")
                path /= MODEL
            weights.take_out(model, arrays)
            onnx.checker.check_model(model, full_check=standard)
            is_small = weights.size(model, arrays) < EXTERNAL_FROM
            (weights.save if is_small else weights.save_in_two)(model, arrays, path)

    def finish(self, model):
        """Hook that changes the complete model of opset 18 in place before it is written."""

    def attach(self, path, files, requests):
        import onnx

        entries = [onnx.StringStringEntryProto(key=name, value=text) for name, text in files.items()]
        # The fields of a message may be in any order, so that further entries can be at the end of the file.
        with open(_file(path), "ab") as file:
            file.write(onnx.ModelProto(metadata_props=entries).SerializeToString())

    def attached(self, path):
        return {entry.key: entry.value for entry in self._load(path).metadata_props}

    def operators(self, path):
        from keras_attn.export.formats.onnx import graphs

        return graphs.operators(self._load(path))

    def reads(self, path):
        return path.suffix == ".onnx" or (path / MODEL).is_file()

    def contents(self, path):
        from keras_attn.export.formats.onnx import contents

        model = self._load(path)
        return {model.graph.name: contents.signature(model)}, contents.weights(model)

    def _load(self, path):
        """The model of an artefact, without external weights."""
        import onnx

        return onnx.load(_file(path), load_external_data=False)


def _file(path):
    return path / MODEL if path.is_dir() else path


def _convert(task):
    import tensorflow as tf
    from tf2onnx import tfonnx

    from keras_attn.export.formats import signatures
    from keras_attn.export.formats.onnx import fusion, shapes, weights
    from keras_attn.ops.target import ONNX

    variables = weights.matrices(getattr(task, "model", None))
    try:
        concrete = signatures.trace_without(variables, task, ONNX)
    except signatures.AssignedVariableError:
        variables = {}
        concrete = signatures.trace(task, ONNX)
    # Further weights and constants of the model follow the arguments, which TensorFlow sorts by name.
    arguments = sorted(signatures.arguments_of([*task.inputs, *variables]).items())
    inputs = concrete.inputs[: len(arguments)]
    names = {tensor.name: name for tensor, (_, name) in zip(inputs, arguments, strict=True)}
    names |= {tensor.name: name for name, tensor in concrete.structured_outputs.items()}
    ends = {
        "input_names": [tensor.name for tensor in inputs],
        "output_names": [tensor.name for tensor in concrete.outputs],
    }
    frozen = converter_compat.frozen_graph(concrete, **ends)
    collected = converter_compat.ops_that_tf2onnx_lacks()
    with tf.Graph().as_default() as graph, collected as unsupported, converter_compat.copying_conditions_alone():
        tf.import_graph_def(frozen, name="")
        converted = tfonnx.process_tf_graph(
            graph, opset=OPSET, custom_op_handlers=_HANDLERS, tensors_to_rename=names, **ends
        )
        if unsupported:
            lacking = ", ".join(sorted(unsupported))
            raise ExportError(
                f"onnx: {task.name} needs operators that ONNX lacks: {lacking}; use `format='saved_model'`"
            )
        optimized = _optimized(converted)
        model = optimized.make_model(task.name, graph_name=task.name)
    model.ir_version = IR_VERSION
    shapes.note(model.graph, optimized)
    arrays = weights.replace_inputs(model, variables)
    fusion.portable(model, arrays)
    _name_axes(model, task, concrete.structured_outputs)
    return model, {tensor.name: arrays[tensor.name] for tensor in model.graph.initializer if tensor.name in arrays}


def _optimized(graph):
    """Runs the optimization passes of tf2onnx on a graph.

    tf2onnx's own driver copies or prints the whole graph, loop bodies included, before each of some fifty passes, few
    of which change anything, and hides their errors.
    """
    changed, iteration = True, 0
    while changed:
        changed = False
        for optimization in converter_compat.tf2onnx_passes():
            optimization.opt_iteration = iteration
            graph = converter_compat.run_pass(optimization, graph)
            if optimization.graph_been_opt:
                graph.delete_unused_nodes(graph.outputs)
                changed = True
        iteration += 1
    graph.delete_unused_nodes(graph.outputs)
    graph.topological_sort(graph.get_nodes())
    return graph


def _join_tokenizer(model, task):
    from onnx import compose

    from keras_attn.text.onnx_writer import onnx_symbols

    name, tokenizer = model.graph.name, task.tokenizer
    if task.reads_text:
        symbols = onnx_symbols(tokenizer, "source" if tokenizer.replaces_bytes else "text", "symbols")
        if not tokenizer.replaces_bytes:
            symbols = compose.merge_models(_replacing_bytes(), symbols, io_map=[("valid", "text")])
        model = compose.merge_models(symbols, model, io_map=[("symbols", "source_symbols")])
    outputs = {value.name: value.type.tensor_type for value in model.graph.output}
    if "text_rows" in outputs:
        model = _join_strings(model, tokenizer, outputs)
    model.graph.name = name
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _replacing_bytes():
    """A model that replaces invalid UTF-8 in the strings `source` by U+FFFD, to strings `valid`."""
    from onnx import compose

    from keras_attn.text.graph import byte_symbols
    from keras_attn.text.onnx_writer import onnx_strings, onnx_symbols

    task = types.SimpleNamespace(
        name="utf8",
        inputs={"bytes": TensorSpec(("batch", "length"), "int32")},
        call=lambda bytes: {"rows": byte_symbols.valid_utf8(bytes) + 1},
    )
    table = types.SimpleNamespace(strings=[b"", *(bytes([byte]) for byte in range(256))])
    reader = types.SimpleNamespace(operator_model=byte_symbols.sentencepiece_model)
    read = onnx_symbols(reader, "source", "read")
    written = onnx_strings(types.SimpleNamespace(text_of_ids=table), "written", "valid")
    model, _ = _convert(task)
    model = compose.add_prefix(model, "utf8/")
    model = compose.merge_models(read, model, io_map=[("read", "utf8/bytes")])
    return compose.merge_models(model, written, io_map=[("utf8/rows", "written")])


def _join_strings(model, tokenizer, outputs):
    """Turns `text_rows` into the output `text`, with the shape of `tokens` without its last axis."""
    from onnx import TensorProto, compose, helper

    from keras_attn.text.onnx_writer import onnx_strings

    del outputs["text_rows"]
    strings = onnx_strings(tokenizer, "rows", "row_texts")
    model = compose.merge_models(model, strings, io_map=[("text_rows", "rows")], outputs=["row_texts", *outputs])
    shape = helper.make_node("Shape", ["tokens"], ["text_shape"], end=-1)
    model.graph.node.extend([shape, helper.make_node("Reshape", ["row_texts", "text_shape"], ["text"])])
    axes = [axis.dim_value or f"tokens_axis_{i}" for i, axis in enumerate(outputs["tokens"].shape.dim)][:-1]
    [output] = [value for value in model.graph.output if value.name == "row_texts"]
    output.CopyFrom(helper.make_tensor_value_info("text", TensorProto.STRING, axes))
    return model


def _name_axes(model, task, outputs):
    """Names the dynamic axes, which tf2onnx calls `unk__NNN`, and restores sizes that it lost.

    Runtimes assume that axes of the same name have the same size, and reuse memory accordingly. So an output axis has
    the name of an input axis only if the task declares it or ONNX shape inference proves it.
    """
    from keras_attn.export.formats.onnx import shapes

    graph = model.graph
    known = {value.name: task.inputs[value.name].axes for value in graph.input}
    rows, declared = getattr(task, "rows", "batch"), getattr(task, "output_axes", {})
    for value in (*graph.input, *graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if value.name in outputs and outputs[value.name].shape[axis] is not None:
                dimension.dim_value = outputs[value.name].shape[axis]
            elif not dimension.HasField("dim_value"):
                own = (rows or f"{value.name}_batch", f"{value.name}_length")
                names = known.get(value.name) or declared.get(value.name, own)
                dimension.dim_param = names[axis] if axis < len(names) else f"{value.name}_axis_{axis}"
    if rows is None:
        given = {axis for axes in known.values() for axis in axes if isinstance(axis, str)}
        shapes.name_proven(model, given)


def _erfc(context, node, name, args):
    """erfc(x) = 1 - erf(x), for the exact GELU."""
    import numpy as np

    dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    [source], [output] = node.input, node.output
    context.remove_node(node.name)
    one = context.make_const(f"{name}/one", np.float32(1)).output[0]
    erf = context.make_node("Erf", [source], name=f"{name}/erf", shapes=[shape], dtypes=[dtype]).output[0]
    context.make_node("Sub", [one, erf], outputs=[output], name=name, shapes=[shape], dtypes=[dtype])


def _log1p(context, node, name, args):
    """log(1 + x)."""
    _in_two(context, node, name, ("Add", "Log"))


def _expm1(context, node, name, args):
    """exp(x) - 1."""
    _in_two(context, node, name, ("Exp", "Sub"))


def _in_two(context, node, name, operators):
    """Replaces a node by two operators; `Add` and `Sub` get the second operand 1."""
    import numpy as np

    dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    [value], [output] = node.input, node.output
    context.remove_node(node.name)
    one = context.make_const(f"{name}/one", np.float32(1)).output[0]
    for operator, outputs in zip(operators, (None, [output]), strict=True):
        inputs = [value, one] if operator in ("Add", "Sub") else [value]
        value = context.make_node(operator, inputs, outputs=outputs, shapes=[shape], dtypes=[dtype]).output[0]


def _where(context, node, name, args):
    """Keeps a `Where`. tf2onnx would emit a sum of products, in which infinity times zero is NaN."""
    node.type = "Where"


_HANDLERS = {"Erfc": (_erfc, []), "Expm1": (_expm1, []), "Log1p": (_log1p, []), "SelectV2": (_where, [])}
