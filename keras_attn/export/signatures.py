"""Tasks as TensorFlow signatures, for every format that starts from a TensorFlow graph."""

import contextlib
import logging

import tensorflow as tf

from keras_attn.ops import cache, loops


def trace(task, cache_policy):
    """The task on ids as a concrete function whose arguments are named after the task's inputs.

    Args:
        task: a `Task`.
        cache_policy: how caches are written, see `keras_attn.ops.cache.writing`. Kernels make do without loops, see
            `keras_attn.ops.loops.without_loops`.
    """
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in task.inputs.items()}
    with cache.writing(cache_policy), loops.without_loops():
        return _concrete(task.call, specs)


def save(tasks, folder, serving_default=False):
    """Writes a SavedModel with one signature a task; a task's tokenizer is part of its signature.

    Args:
        tasks: list of `Task`.
        folder: the SavedModel to make.
        serving_default: whether the first task is also the default signature.
    """
    module = tf.Module()
    # The variables, and not the model: tracking a Keras model would save its training functions too.
    module.weights = [variable.value for variable in tasks[0].model.variables]
    module.tokenizers = {}
    signatures = {}
    for task in tasks:
        if task.tokenizer is None:
            signatures[task.name] = trace(task, "slice")
        else:
            from keras_attn.text.tensorflow_emitter import tensorflow_tokenizer

            module.tokenizers[task.name] = tensorflow_tokenizer(task.tokenizer)
            signatures[task.name] = _trace_text(task, module.tokenizers[task.name])
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


def _trace_text(task, tokenizer):
    def call(source):
        outputs = task.call(source_ids=tokenizer.encode(source))
        return {**outputs, "text": tokenizer.decode(outputs["tokens"])}

    with cache.writing("slice"), loops.without_loops():
        return _concrete(call, {"source": tf.TensorSpec((None,), tf.string, "source")})


def _concrete(call, specs):
    return tf.function(lambda **inputs: call(**inputs), autograph=False).get_concrete_function(**specs)
