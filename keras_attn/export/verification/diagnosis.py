"""Finds the first layer in which an artefact differs from its model.

The artefact is written again with the outputs of every layer, which are compared in the order in which the layers
finish: a layer that contains others comes after them.
"""

import contextlib
import re
import tempfile
from pathlib import Path

import numpy as np

from keras_attn.export import precisions, registry
from keras_attn.export.verification import clients, comparison


def first_difference(task, case, write, format, precision):
    """A description of the first tensor that differs, or `None` if no layer differs.

    Args:
        task: The `Task` whose artefact differs.
        case: Inputs for which it differs.
        write: Function that writes the artefact of a task to a folder and returns its path.
        format: Name of the format.
        precision: Name of the precision.
    """
    if "source" in case:
        [name] = task.inputs
        case = {name: np.asarray(task.tokenizer.encode(case["source"].tolist()), "int32")}
        task = type(task)(task.model, False)
    found = _differing(task, case, write, format, precision)
    if found is None and task.name != "forward":
        # Layers inside a loop cannot be inspected: use the same weights without the loop.
        with contextlib.suppress(ValueError, AttributeError):
            forward = registry.load("tasks", "forward")(task.model)
            found = _differing(forward, forward.cases()[0], write, format, precision)
    return found


class Recording:
    """A task that outputs the tensors of every layer, numbered in the order in which the layers finish.

    Args:
        task: The task to wrap; all other attributes are forwarded to it.
    """

    tokenizer = None
    # The axes of layer outputs are unknown.
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
            # Tensors of a loop's body are not available outside of it.
            if getattr(tensor, "graph", None) is graph and tensor.dtype.is_floating:
                name = f"layer_{len(outputs):04d}"
                self.names[name] = f"{'output' if index is None else f'output {index}'} of layer {layer.path!r}"
                # A tensor may be the output of several layers, but artefact outputs have one name each.
                outputs[name] = tf.identity(tensor)
        for name, tensor in results.items():
            key = f"result_{re.sub(r'[^0-9a-zA-Z]', '_', name)}"
            self.names[key] = f"{name!r}, after all layers"
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
    """Both divided by the largest value if that is above 1: values inside a model may have any magnitude."""
    if actual is None or expected.dtype.kind != "f":
        return expected, actual
    scale = np.maximum(1, np.max(np.abs(expected), initial=0)).astype(expected.dtype)
    return expected / scale, actual / scale
