"""Formats and tasks are found by file: `formats/<name>.py` defines `Emitter`, `tasks/<name>.py` defines `Task`."""

import importlib
import pkgutil

from keras_attn.export import formats, tasks


def names(kind):
    """The sorted names of the known "formats" or "tasks"."""
    return sorted(module.name for module in pkgutil.iter_modules(_package(kind).__path__))


def load(kind, name):
    """The class of one format (an `Emitter`) or task (a `Task`); its file is imported only now."""
    module = importlib.import_module(f"{_package(kind).__name__}.{name}")
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


def _package(kind):
    return {"formats": formats, "tasks": tasks}[kind]
