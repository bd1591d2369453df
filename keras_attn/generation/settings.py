"""Base class of settings that are compared by value and saved with a model."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import keras
import numpy as np

from keras_attn.lazy import register
from keras_attn.plain_numbers import PlainNumbers
from keras_attn.typing import Tensor

# Placeholder for a number that is an input of a graph.
INPUT = "input"


@dataclasses.dataclass(frozen=True)
class Settings(PlainNumbers):
    """Base class of frozen dataclasses that Keras can save; fields may hold nested settings and tuples of them.

    Subclasses are registered with `keras.saving.register_keras_serializable(package="keras_attn")`. A subclass with
    `graph_numbers` reads them through `number`, so that one graph of `generate` serves all their values.
    """

    def __post_init__(self):
        """Raises a ValueError for invalid values."""

    def graph_numbers(self) -> dict[str, float]:
        """Numbers by field name, floats or integers, that may be inputs of a graph instead of constants."""
        return {}

    def number(self, name: str) -> Tensor:
        """One of `graph_numbers`, or the scalar tensor that replaces it in a graph of `generate`."""
        inputs = vars(self).get("_inputs", {})
        return inputs[name] if name in inputs else self.graph_numbers()[name]

    def shared(self) -> tuple[Self, dict[str, Any]]:
        """`(settings, numbers)`: a copy with `INPUT` for each of `graph_numbers`, and their values as NumPy scalars."""
        # Not inherited ones: a subclass may use such a field in Python.
        numbers = self.graph_numbers() if "graph_numbers" in vars(type(self)) else {}
        return self.unchecked(**dict.fromkeys(numbers, INPUT)), {name: _scalar(x) for name, x in numbers.items()}

    def unchecked(self, kind: type[Settings] | None = None, **attributes: Any) -> Any:
        """A copy with changed attributes, without validation; `kind` may be a subclass to convert to."""
        settings = object.__new__(kind or type(self))
        vars(settings).update(vars(self) | attributes)
        return settings

    def get_config(self) -> dict[str, Any]:
        return {
            field.name: keras.saving.serialize_keras_object(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        register(config)
        return cls(**{name: _frozen(keras.saving.deserialize_keras_object(value)) for name, value in config.items()})


def _frozen(value):
    """Turns lists from JSON back into tuples, which are hashable."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _scalar(number):
    return np.int32(min(number, 2**31 - 1)) if isinstance(number, int) else np.float32(number)


def power_of_two(size, least=16):
    """The next power of two, at least `least`."""
    return max(least, 1 << (size - 1).bit_length())
