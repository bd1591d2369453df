"""Names of a package that are imported once they are asked for."""

import contextlib
import importlib
import os
import sys

COMMAND = "keras-attn"


def lazy(package, homes):
    """`(__getattr__, __dir__)` of a package, for names that live in its modules.

    Args:
        package: `__name__` of the package.
        homes: name of the module -> names in it. The package imports them once more under `TYPE_CHECKING`, for tools
            that run nothing, and its `__all__` spells them out.
    """
    modules = {name: module for module, names in homes.items() for name in names.split()}

    def find(name):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    # What `dir`, tab completion and `help` show: the names that are there, and those that will be.
    return find, lambda: sorted({*vars(sys.modules[package]), *modules})


def is_command():
    """Whether this process is the command `keras-attn`, or `python -m keras_attn`."""
    program = (getattr(sys, "argv", None) or [""])[0]
    if program == "-m":
        # So it is while Python looks for the module, which is behind the option.
        arguments = sys.orig_argv
        return arguments[arguments.index("-m") + 1] in ("keras_attn", "keras_attn.cli") if "-m" in arguments else False
    return os.path.basename(program).removesuffix(".exe") == COMMAND


def register(config):
    """Imports the modules of this package that a Keras config names, and puts what it names back into Keras' registry.

    Keras finds only classes that were imported, and none that somebody has cleared from its registry.
    """
    if isinstance(config, dict):
        module, name = config.get("module"), config.get("class_name")
        if name == "function":
            # Of a function, Keras tells no module.
            package, _, name = str(config.get("config")).rpartition(">")
            module = "keras_attn.ops" if package == "keras_attn" else None
        if isinstance(module, str) and module.startswith("keras_attn."):
            # The file may name a module of another version: the public packages have all that configs name.
            for home in (module, ".".join(module.split(".")[:2])):
                # Keras says in better words what is not there.
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
    """Puts a class or function of this package back into Keras' registry, under the name that configs have."""
    import keras

    name = keras.saving.get_registered_name(found)
    if name.startswith("keras_attn>"):
        keras.saving.get_custom_objects().setdefault(name, found)
