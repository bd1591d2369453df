"""Type aliases for annotations. Shapes and dtypes are in the docstrings."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import keras

# A backend tensor, a `keras.KerasTensor`, a variable or a NumPy array, which have no common static type.
Tensor: TypeAlias = Any

# A tensor or None, or tuples, lists and dicts of them.
Nest: TypeAlias = Any

Array: TypeAlias = np.ndarray[Any, Any]
Shape: TypeAlias = tuple[int | None, ...]
PathLike: TypeAlias = str | os.PathLike[str]

# Values that Keras accepts by name, config or object. In quotes, so that Keras is not imported.
Activation: TypeAlias = str | dict[str, Any] | Callable[..., Any]
Initializer: TypeAlias = "str | dict[str, Any] | Callable[..., Any] | keras.initializers.Initializer"
Regularizer: TypeAlias = "str | dict[str, Any] | Callable[..., Any] | keras.regularizers.Regularizer"
Constraint: TypeAlias = "str | dict[str, Any] | Callable[..., Any] | keras.constraints.Constraint"
Metric: TypeAlias = "str | Callable[..., Any] | keras.metrics.Metric"
Seed: TypeAlias = "int | keras.random.SeedGenerator"
