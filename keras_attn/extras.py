"""Imports of optional dependencies."""

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional dependency.

    Args:
        module: Dotted name of the module, such as `"onnx.helper"`.
        extra: The extra of `keras_attn` that installs it, such as `"onnx"`.

    Returns:
        The imported module.

    Raises:
        ImportError: If the module is not installed. The message names the extra.

    Example:

    >>> from keras_attn.extras import require
    >>> require("json", "text").dumps([1, 2])
    '[1, 2]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise ImportError(
            f"This part of keras_attn needs {package}. Install it with: pip install 'keras_attn[{extra}]'"
        ) from error
