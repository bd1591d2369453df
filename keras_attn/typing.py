"""Names in the annotations of this package: they say what a value is, and the docstrings its shape and dtype."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import keras

# A tensor of the backend, a `keras.KerasTensor`, a variable or a NumPy array: no static type knows what all can do.
Tensor: TypeAlias = Any

# Tensors in tuples, lists and dicts, a tensor alone, or None in the place of one.
Nest: TypeAlias = Any

Array: TypeAlias = np.ndarray[Any, Any]
Shape: TypeAlias = tuple[int | None, ...]
PathLike: TypeAlias = str | os.PathLike[str]

# What Keras finds by name or config, or takes as it is. In quotes: these names do not wait for Keras.
Activation: TypeAlias = str | dict[str, Any] | Callable[..., Any]
Initializer: TypeAlias = "str | dict[str, Any] | Callable[..., Any] | keras.initializers.Initializer"
Regularizer: TypeAlias = "str | dict[str, Any] | Callable[..., Any] | keras.regularizers.Regularizer"
Constraint: TypeAlias = "str | dict[str, Any] | Callable[..., Any] | keras.constraints.Constraint"
Metric: TypeAlias = "str | Callable[..., Any] | keras.metrics.Metric"
Seed: TypeAlias = "int | keras.random.SeedGenerator"
