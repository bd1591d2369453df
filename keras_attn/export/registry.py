"""The known formats and tasks: the module of each defines `Emitter` or `Task`. A user may register others."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_attn.export.formats.format import Format
    from keras_attn.export.tasks.task import Task

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
_registered = {"formats": {}, "tasks": {}}


def register_format(cls: type[Format]) -> type[Format]:
    """Makes a `Format` of your own known to `export`, `verify` and `inspect` by its `name`; a decorator.

    Raises:
        ValueError: the name is that of another format, or is no identifier.

    Example:

    >>> from keras_attn.export import Format, register_format
    >>> @register_format
    ... class Zipped(Format):
    ...     name = runtime = "zipped"
    ...     file_name = "model.zip"
    """
    return _register("formats", cls)


def register_task(cls: type[Task]) -> type[Task]:
    """Makes a `Task` of your own known to `export` and `verify` by its `name`; a decorator.

    Raises:
        ValueError: the name is that of another task, or is no identifier.

    Example:

    >>> from keras_attn.export import Task, register_task
    >>> @register_task
    ... class Norms(Task):
    ...     name = "norms"
    """
    return _register("tasks", cls)


def _register(kind, cls):
    name, known = getattr(cls, "name", None), _registered[kind].get(getattr(cls, "name", None))
    # A cell of a notebook is run again.
    is_again = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
    if not isinstance(name, str) or not name.isidentifier() or (name in names(kind) and not is_again):
        raise ValueError(f"`name` must be an identifier that no other of {names(kind)} has. Received: name={name!r}")
    _registered[kind][name] = cls
    return cls


def names(kind):
    """The sorted names of the known "formats" or "tasks"."""
    return sorted(_HOMES[kind].keys() | _registered[kind].keys())


def load(kind, name):
    """The class of one format (a `Format`) or task (a `Task`); its module is imported only now."""
    if name in _registered[kind]:
        return _registered[kind][name]
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
