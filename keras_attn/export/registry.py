"""Registry of formats and tasks. The module of each defines `FormatWriter` or `Task`; users can register more."""

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
        for name in ("beam", "classify", "decode", "encode", "forward", "generate", "prefill", "step", "transcribe")
    },
}
_registered = {"formats": {}, "tasks": {}}


def register_format(cls: type[Format]) -> type[Format]:
    """Class decorator that registers a `Format` by its `name` for `export`, `verify` and `inspect`.

    Raises:
        ValueError: If the name is taken by another format or is not an identifier.

    Example:

    >>> from keras_attn.export import Format, register_format
    >>> @register_format
    ... class Zipped(Format):
    ...     name = runtime = "zipped"
    ...     file_name = "model.zip"
    """
    return _register("formats", cls)


def register_task(cls: type[Task]) -> type[Task]:
    """Class decorator that registers a `Task` by its `name` for `export` and `verify`.

    Raises:
        ValueError: If the name is taken by another task or is not an identifier.

    Example:

    >>> from keras_attn.export import Task, register_task
    >>> @register_task
    ... class Norms(Task):
    ...     name = "norms"
    """
    return _register("tasks", cls)


def _register(kind, cls):
    name, known = getattr(cls, "name", None), _registered[kind].get(getattr(cls, "name", None))
    # Notebook cells may run again.
    is_again = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
    if not isinstance(name, str) or not name.isidentifier() or (name in names(kind) and not is_again):
        raise ValueError(f"`name` must be an identifier other than {names(kind)}. Received: name={name!r}")
    _registered[kind][name] = cls
    return cls


def names(kind):
    """The sorted names of all "formats" or "tasks"."""
    return sorted(_HOMES[kind].keys() | _registered[kind].keys())


def load(kind, name):
    """Imports and returns the class of a format (a `Format`) or task (a `Task`)."""
    if name in _registered[kind]:
        return _registered[kind][name]
    module = importlib.import_module(f"keras_attn.export.{_HOMES[kind][name]}")
    return module.FormatWriter if kind == "formats" else module.Task


def chosen(kind, argument, value):
    """`value`, one or more names, as a list of known names.

    Raises:
        ValueError: If a name is unknown or there is none.
    """
    wanted = [value] if isinstance(value, str) else list(value)
    known = names(kind)
    if not wanted or not all(name in known for name in wanted):
        raise ValueError(f"`{argument}` must name one or more of {known}. Received: {argument}={value!r}")
    return list(dict.fromkeys(wanted))
