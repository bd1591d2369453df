"""Tasks as TensorFlow signatures, for every format that starts from a TensorFlow graph."""

import contextlib
import keyword
import logging
import re

import keras
import tensorflow as tf

from keras_attn import compat
from keras_attn.export.tasks.text_task import TextTask
from keras_attn.ops.target import SAVED_MODEL, TFLITE, tracing_for


def trace(task, target, half=()):
    """The task on ids as a concrete function whose arguments are named after the task's inputs.

    Args:
        task: a `Task`.
        target: the `Target` of the format.
        half: pairs of a Keras variable and the `tf.Variable` in half precision that stands for it.
    """
    return _concrete(_reading(half, task.call), _specs(task), target)


def save(tasks, folder, serving_default=False, half=(), format="saved_model"):
    """Writes a SavedModel with one signature a task; a task's tokenizer is part of its signature.

    Args:
        tasks: list of `Task`.
        folder: the SavedModel to make.
        serving_default: whether the first task is also the default signature.
        half: Keras variables to store in half precision; all is computed in float32.
        format: what the SavedModel is for; TFLite has text operators of its own.
    """
    module = tf.Module()
    # The variables, and not the model: tracking a Keras model would save its training functions too.
    narrow = {variable.path: tf.Variable(tf.cast(variable.value, "float16")) for variable in half}
    module.weights = [narrow.get(variable.path, variable.value) for variable in tasks[0].model.variables]
    module.tables = tables(tasks[0].model)
    pairs = [(variable, narrow[variable.path]) for variable in half]
    module.text_ops = {}
    # What a converter is still to read keeps to the operations that it knows.
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
    """What Keras' preprocessing layers look strings up in, which no variable holds."""
    layers = compat.layers_of(model) if isinstance(model, keras.Model) else ()
    return [table for layer in layers for table in compat.lookup_tables_of(layer)]


@contextlib.contextmanager
def quiet_tensorflow():
    """Within the scope, TensorFlow's Python logger keeps its progress notes to itself."""
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
    """`call` on weights that are stored in half precision."""
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
    """What the inputs of these names are called as arguments of a concrete function: argument -> name."""
    found = {}
    for i, name in enumerate(names):
        argument = _argument(name)
        found[argument if argument and argument not in found else f"argument_{i}"] = name
    return found


def check_names(task, format):
    """Raises a ValueError where an input has a name that no signature can show."""
    small = [argument and argument.lower() for argument in map(_argument, task.inputs)]
    for name, argument in zip(task.inputs, small, strict=True):
        if argument is None or small.count(argument) > 1:
            raise ValueError(
                "`model` must have inputs whose names are letters, digits and underscores, begin with a letter and are "
                f"no word of Python, as {format} takes no others, reads dots as underscores and does not tell capitals "
                "from small letters; "
                f"`keras.Input(..., name=)` gives one. Received: {name!r} among {list(task.inputs)}"
            )


def _argument(name):
    """What TensorFlow calls an argument of this name, which then names the input of a signature; None if it cannot."""
    argument = re.sub("[.-]", "_", name)
    is_plain = re.fullmatch("[A-Za-z][A-Za-z0-9_]*", argument) is not None
    return argument if is_plain and not keyword.iskeyword(argument) and argument != "self" else None


def _different(outputs, inputs):
    """Outputs that are tensors of their own: converters name one tensor once, be it input and output."""
    known, found = {id(tensor) for tensor in inputs}, {}
    for name, tensor in outputs.items():
        found[name] = tf.identity(tensor) if id(tensor) in known else tensor
        known.add(id(found[name]))
    return found
