"""Names of a package that are imported once they are asked for."""

import importlib


def lazy(package, homes):
    """`(__getattr__, __dir__)` of a package, for names that live in its modules.

    Args:
        package: `__name__` of the package.
        homes: name of the module -> names in it.
    """
    modules = {name: module for module, names in homes.items() for name in names.split()}

    def find(name):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return find, lambda: sorted(modules)
