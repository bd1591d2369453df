"""Tasks as TensorFlow signatures, for every format that starts from a TensorFlow graph."""

import contextlib
import logging
import re

import keras
import tensorflow as tf

from keras_attn.export.symbol_task import SymbolTask
from keras_attn.ops import cache, loops


def trace(task, cache_policy, half=()):
    """The task on ids as a concrete function whose arguments are named after the task's inputs.

    Args:
        task: a `Task`.
        cache_policy: how caches are written, see `keras_attn.ops.cache.writing`. Kernels make do without loops, see
            `keras_attn.ops.loops.without_loops`.
        half: pairs of a Keras variable and the `tf.Variable` in half precision that stands for it.
    """
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in task.inputs.items()}
    return _concrete(_reading(half, task.call), specs, cache_policy)


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
    pairs = [(variable, narrow[variable.path]) for variable in half]
    module.text_ops = {}
    # What a converter is still to read keeps to the operations that it knows.
    cache_policy = "in_place" if format == "saved_model" else "slice"
    signatures = {}
    for task in tasks:
        if task.tokenizer is None:
            signatures[task.name] = trace(task, cache_policy, pairs)
        else:
            from keras_attn.text.tensorflow_emitter import tensorflow_text_ops

            module.text_ops[task.name] = tensorflow_text_ops(task.tokenizer, format)
            signatures[task.name] = _trace_text(task, module.text_ops[task.name], cache_policy, pairs)
    if serving_default:
        signatures["serving_default"] = signatures[tasks[0].name]
    with quiet_tensorflow():
        tf.saved_model.save(module, str(folder), signatures=signatures)


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


def _trace_text(task, text_ops, cache_policy, half):
    inner = SymbolTask(task)

    def call(source):
        outputs = inner.call(text_ops.symbols(source))
        if "text_rows" in outputs:
            strings = text_ops.strings(outputs.pop("text_rows"))
            outputs["text"] = tf.reshape(strings, tf.shape(outputs["tokens"])[:-1])
        return outputs

    return _concrete(_reading(half, call), {"source": tf.TensorSpec((None,), tf.string, "source")}, cache_policy)


def _reading(half, call):
    """`call` on weights that are stored in half precision."""
    if not half:
        return call

    def widened(**inputs):
        widened_pairs = [(variable, tf.cast(stored, variable.dtype)) for variable, stored in half]
        with keras.StatelessScope(state_mapping=widened_pairs):
            return call(**inputs)

    return widened


def _concrete(call, specs, cache_policy):
    # TensorFlow's names of arguments hold no dots.
    names = {re.sub(r"\W", "_", name): name for name in specs}

    def named_call(**inputs):
        return call(**{names[argument]: value for argument, value in inputs.items()})

    arguments = {argument: specs[name] for argument, name in names.items()}
    with cache.writing(cache_policy), loops.without_loops():
        return tf.function(named_call, autograph=False).get_concrete_function(**arguments)
