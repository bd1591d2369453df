"""Lazy imports of the public names of a package."""

import contextlib
import importlib
import os
import sys

COMMAND = "keras-attn"


def lazy(package, homes):
    """Returns `(__getattr__, __dir__)` of a package, which import names from its modules on first use.

    Args:
        package: `__name__` of the package.
        homes: Dict from module to its names, separated by spaces. For static tools, the package also imports the names
            under `TYPE_CHECKING` and lists them in `__all__`.
    """
    modules = {name: module for module, names in homes.items() for name in names.split()}

    def find(name):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    # `dir`, tab completion and `help` also show names that are not imported yet.
    return find, lambda: sorted({*vars(sys.modules[package]), *modules})


def is_command():
    """Whether this process is the command `keras-attn`, or `python -m keras_attn`."""
    program = (getattr(sys, "argv", None) or [""])[0]
    if program == "-m":
        # While Python looks for the module, its name is the argument after the option.
        arguments = sys.orig_argv
        return arguments[arguments.index("-m") + 1] in ("keras_attn", "keras_attn.cli") if "-m" in arguments else False
    return os.path.basename(program).removesuffix(".exe") == COMMAND


def register(config):
    """Imports the modules of this package in a Keras config, and registers their classes and functions with Keras.

    Keras finds only classes that were imported and not cleared from its registry.
    """
    if isinstance(config, dict):
        module, name = config.get("module"), config.get("class_name")
        if name == "function":
            # Keras does not store the module of a function.
            package, _, name = str(config.get("config")).rpartition(">")
            module = "keras_attn.ops" if package == "keras_attn" else None
        if isinstance(module, str) and module.startswith("keras_attn."):
            # The module may be from another version. All classes in configs are also in the public packages.
            for home in (module, ".".join(module.split(".")[:2])):
                # Keras has a better error message for missing names.
                with contextlib.suppress(ImportError):
                    found = getattr(importlib.import_module(home), str(name), None)
                    if callable(found) and hasattr(found, "__name__"):
                        register_again(found)
                        break
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for value in config:
            register(value)


def register_again(found):
    """Registers a class or function of this package with Keras again, under its name in configs."""
    import keras

    name = keras.saving.get_registered_name(found)
    if name.startswith("keras_attn>"):
        keras.saving.get_custom_objects().setdefault(name, found)
