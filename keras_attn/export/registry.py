"""The known formats and tasks: the module of each defines `Emitter` or `Task`."""

import importlib

_HOMES = {
    "formats": {
        "onnx": "formats.onnx.writer",
        "onnx_fused": "formats.onnx.fused_writer",
        "saved_model": "formats.saved_model.writer",
        "tflite": "formats.tflite.writer",
    },
    "tasks": {
        name: f"tasks.{name}"
        for name in ("beam", "classify", "decode", "encode", "forward", "generate", "prefill", "step")
    },
}


def names(kind):
    """The sorted names of the known "formats" or "tasks"."""
    return sorted(_HOMES[kind])


def load(kind, name):
    """The class of one format (an `Emitter`) or task (a `Task`); its module is imported only now."""
    module = importlib.import_module(f"keras_attn.export.{_HOMES[kind][name]}")
    return module.Emitter if kind == "formats" else module.Task


def chosen(kind, argument, value):
    """`value`, a name or several, as a list of known names.

    Raises:
        ValueError: a name is unknown, or there is none.
    """
    wanted = [value] if isinstance(value, str) else list(value)
    known = names(kind)
    if not wanted or not all(name in known for name in wanted):
        raise ValueError(f"`{argument}` must name one or more of {known}. Received: {argument}={value!r}")
    return list(dict.fromkeys(wanted))
