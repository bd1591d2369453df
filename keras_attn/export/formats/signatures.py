"""Tasks as TensorFlow signatures, for the formats that are converted from TensorFlow graphs."""

import contextlib
import keyword
import logging
import re

import keras
import tensorflow as tf

from keras_attn import compat
from keras_attn.export.tasks.text_task import TextTask
from keras_attn.ops.target import SAVED_MODEL, TFLITE, tracing_for


class AssignedVariableError(Exception):
    """A task assigns a variable, such as the state of a random seed; scopes of Keras do not assign it in the graph."""


def trace(task, target, half=()):
    """Traces a task on ids to a concrete function with arguments named after the inputs of the task.

    Args:
        task: A `Task`.
        target: The `Target` of the format.
        half: Pairs of a Keras variable and the half-precision `tf.Variable` that replaces it.
    """
    return _concrete(_reading(half, task.call), _specs(task), target)


def trace_without(variables, task, target):
    """As `trace`, but the values of some variables are further arguments, so that the graph does not hold them.

    Args:
        variables: Dict of Keras variables by argument.
        task: A `Task`.
        target: The `Target` of the format.

    Raises:
        AssignedVariableError: If the task assigns a variable.
    """

    def call(**inputs):
        values = [(variable, inputs.pop(name)) for name, variable in variables.items()]
        with keras.StatelessScope(state_mapping=values) as scope:
            known = dict(scope.state_mapping)
            outputs = task.call(**inputs)
        if any(known.get(key) is not value for key, value in scope.state_mapping.items()):
            raise AssignedVariableError(f"{task.name} assigns a variable")
        return outputs

    specs = {name: tf.TensorSpec(variable.shape, variable.dtype, name) for name, variable in variables.items()}
    return _concrete(call, _specs(task) | specs, target)


def save(tasks, folder, serving_default=False, half=(), format="saved_model"):
    """Writes a SavedModel with one signature per task, including its tokenizer.

    Args:
        tasks: List of `Task`.
        folder: The SavedModel folder to write.
        serving_default: Whether the first task is also the default signature.
        half: Keras variables to store in half precision; computation stays in float32.
        format: The format that the SavedModel is for; TFLite has its own text operators.
    """
    module = tf.Module()
    # Track the variables, not the model: tracking a Keras model would also save its training functions.
    narrow = {variable.path: tf.Variable(tf.cast(variable.value, "float16")) for variable in half}
    module.weights = [narrow.get(variable.path, variable.value) for variable in tasks[0].model.variables]
    module.tables = tables(tasks[0].model)
    pairs = [(variable, narrow[variable.path]) for variable in half]
    module.text_ops = {}
    # A SavedModel for the TFLite converter is restricted to the operations that it supports.
    target = SAVED_MODEL if format == "saved_model" else TFLITE
    signatures = {}
    for task in tasks:
        if task.tokenizer is None:
            signatures[task.name] = trace(task, target, pairs)
        else:
            from keras_attn.text.tensorflow_writer import tensorflow_text_ops

            module.text_ops[task.name] = tensorflow_text_ops(task.tokenizer, format)
            signatures[task.name] = _trace_text(task, module.text_ops[task.name], target, pairs)
    if serving_default:
        signatures["serving_default"] = signatures[tasks[0].name]
    with quiet_tensorflow():
        tf.saved_model.save(module, str(folder), signatures=signatures)


def tables(model):
    """The lookup tables of Keras' preprocessing layers, which are not variables."""
    layers = compat.layers_of(model) if isinstance(model, keras.Model) else ()
    return [table for layer in layers for table in compat.lookup_tables_of(layer)]


@contextlib.contextmanager
def quiet_tensorflow():
    """Scope in which TensorFlow's Python logger reports errors only."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _trace_text(task, text_ops, target, half):
    inner = TextTask(task)

    def call(**inputs):
        if task.reads_text:
            inputs = {"source_symbols": text_ops.symbols(inputs["source"])}
        outputs = inner.call(**inputs)
        if "text_rows" in outputs:
            strings = text_ops.strings(outputs.pop("text_rows"))
            outputs["text"] = tf.reshape(strings, tf.shape(outputs["tokens"])[:-1])
        return outputs

    specs = {"source": tf.TensorSpec((None,), tf.string, "source")} if task.reads_text else _specs(task)
    return _concrete(_reading(half, call), specs, target)


def _specs(task):
    return {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in task.inputs.items()}


def _reading(half, call):
    """Wraps `call` to cast the weights that are stored in half precision."""
    if not half:
        return call

    def widened(**inputs):
        widened_pairs = [(variable, tf.cast(stored, variable.dtype)) for variable, stored in half]
        with keras.StatelessScope(state_mapping=widened_pairs):
            return call(**inputs)

    return widened


def _concrete(call, specs, target):
    names = arguments_of(specs)

    def named_call(**inputs):
        outputs = call(**{names[argument]: value for argument, value in inputs.items()})
        return _different(outputs, inputs.values())

    arguments = {argument: specs[name] for argument, name in names.items()}
    with tracing_for(target):
        return tf.function(named_call, autograph=False).get_concrete_function(**arguments)


def arguments_of(names):
    """Maps the argument names of a concrete function to input names."""
    found = {}
    for i, name in enumerate(names):
        argument = _argument(name)
        found[argument if argument and argument not in found else f"argument_{i}"] = name
    return found


def check_names(task, format):
    """Raises a ValueError if an input name cannot be an argument of a signature."""
    small = [argument and argument.lower() for argument in map(_argument, task.inputs)]
    for name, argument in zip(task.inputs, small, strict=True):
        if argument is None or small.count(argument) > 1:
            raise ValueError(
                "`model` must have inputs whose names consist of letters, digits and underscores, begin with a letter "
                f"and are not Python keywords, as {format} supports no others, turns dots into underscores and ignores "
                f"case; `keras.Input(..., name=)` sets them. Received: {name!r} among {list(task.inputs)}"
            )


def _argument(name):
    """The name of a signature input that TensorFlow derives from an argument of this name; None if it is invalid."""
    argument = re.sub("[.-]", "_", name)
    is_plain = re.fullmatch("[A-Za-z][A-Za-z0-9_]*", argument) is not None
    return argument if is_plain and not keyword.iskeyword(argument) and argument != "self" else None


def _different(outputs, inputs):
    """Copies outputs that are also inputs or other outputs: converters give each tensor one name."""
    known, found = {id(tensor) for tensor in inputs}, {}
    for name, tensor in outputs.items():
        found[name] = tf.identity(tensor) if id(tensor) in known else tensor
        known.add(id(found[name]))
    return found
