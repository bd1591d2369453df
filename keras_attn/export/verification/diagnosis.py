"""Which layer of a model an artefact is the first to get wrong.

An artefact that differs is written once more, with every layer's outputs beside the task's own, and compared layer by
layer in the order in which they finish: a layer that holds others comes after them.
"""

import contextlib
import re
import tempfile
from pathlib import Path

import numpy as np

from keras_attn.export import precisions, registry
from keras_attn.export.verification import clients, comparison


def first_difference(task, case, write, format, precision):
    """The first tensor that differs, in words, or `None` where no layer can be blamed.

    Args:
        task: the `Task` whose artefact differs.
        case: inputs on which it does.
        write: writes the artefact of a task into a folder and returns its path.
        format: name of the format.
        precision: name of the precision.
    """
    if "source" in case:
        case = {"source_ids": np.asarray(task.tokenizer.encode(case["source"].tolist()), "int32")}
        task = type(task)(task.model, False)
    found = _differing(task, case, write, format, precision)
    if found is None and task.name != "forward":
        # Layers inside a loop cannot be looked into: the same weights, without the loop.
        with contextlib.suppress(ValueError, AttributeError):
            forward = registry.load("tasks", "forward")(task.model)
            found = _differing(forward, forward.cases()[0], write, format, precision)
    return found


class Recording:
    """A task whose outputs are those of every layer, numbered in the order in which the layers finish.

    Args:
        task: the task; all else is its own.
    """

    tokenizer = None
    # Of a layer's outputs nothing is known.
    rows, output_axes = None, {}

    def __init__(self, task):
        self._task = task
        self.names = {}

    def __getattr__(self, name):
        return getattr(self._task, name)

    def call(self, /, **inputs):
        import tensorflow as tf

        from keras_attn.layers.base.layer_outputs import layer_outputs

        graph, outputs = tf.compat.v1.get_default_graph(), {}
        with layer_outputs(self._task.model) as recorded:
            results = self._task.call(**inputs)
        for layer, index, tensor in recorded:
            # What a loop's body computes cannot be had outside of it.
            if getattr(tensor, "graph", None) is graph and tensor.dtype.is_floating:
                name = f"layer_{len(outputs):04d}"
                self.names[name] = f"{'output' if index is None else f'output {index}'} of layer {layer.path!r}"
                # A tensor may be several layers' output, and an artefact's outputs have one name each.
                outputs[name] = tf.identity(tensor)
        for name, tensor in results.items():
            key = f"result_{re.sub(r'[^0-9a-zA-Z]', '_', name)}"
            self.names[key] = f"{name!r}, behind all layers"
            outputs[key] = tf.identity(tensor)
        return outputs


def _differing(task, case, write, format, precision):
    import tensorflow as tf

    limits = precisions.TABLE[precision]
    recording = Recording(task)
    inputs = {name: tf.convert_to_tensor(value) for name, value in case.items()}
    with tf.device("cpu:0"):
        expected = tf.function(recording.call, autograph=False)(**inputs)
    expected = {name: value.numpy() for name, value in expected.items()}
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "cases.npz"
        np.savez(cases, **{f"inputs/0/{name}": value for name, value in case.items()})
        artefact = write(recording, Path(folder))
        actual, *_ = clients.run(format, artefact, {task.name: cases}, repeat=0)[task.name]
    for name, value in sorted(expected.items()):
        problem, *_ = comparison.difference(*_scaled(value, actual.get(f"outputs/0/{name}")), limits)
        if problem:
            return f"{recording.names[name]} {problem}"
    return None


def _scaled(expected, actual):
    """Both as parts of the largest value, where that is above 1: inside a model, values may be of any size."""
    if actual is None or expected.dtype.kind != "f":
        return expected, actual
    scale = np.maximum(1, np.max(np.abs(expected), initial=0)).astype(expected.dtype)
    return expected / scale, actual / scale
