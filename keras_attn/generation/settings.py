"""Settings that a model carries: compared by value, and saved with it."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import keras
import numpy as np

from keras_attn.lazy import register
from keras_attn.plain_numbers import PlainNumbers
from keras_attn.typing import Tensor

# In the place of a number that is an input of a graph.
INPUT = "input"


@dataclasses.dataclass(frozen=True)
class Settings(PlainNumbers):
    """Base of frozen dataclasses that Keras can save; fields may hold further ones, and tuples of them.

    A subclass is registered with `keras.saving.register_keras_serializable(package="keras_attn")`. One with
    `graph_numbers` reads them by `number`, so that one graph of `generate` serves all their values.
    """

    def __post_init__(self):
        """Refuses values that do not fit."""

    def graph_numbers(self) -> dict[str, float]:
        """By field, the number that a graph computes with, a float or an int, where it may be an input of the graph."""
        return {}

    def number(self, name: str) -> Tensor:
        """One of `graph_numbers`, or in a graph of `generate` the input in its place, a scalar tensor."""
        inputs = vars(self).get("_inputs", {})
        return inputs[name] if name in inputs else self.graph_numbers()[name]

    def shared(self) -> tuple[Self, dict[str, Any]]:
        """`(settings, numbers)`: the settings with `INPUT` for each of `graph_numbers`, and these as NumPy scalars."""
        # Not those of a base: a subclass may compute with such a field in Python.
        numbers = self.graph_numbers() if "graph_numbers" in vars(type(self)) else {}
        return self.unchecked(**dict.fromkeys(numbers, INPUT)), {name: _scalar(x) for name, x in numbers.items()}

    def unchecked(self, kind: type[Settings] | None = None, **attributes: Any) -> Any:
        """A copy, of a class derived from its own if need be, with attributes that no check would let pass."""
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
    """JSON knows lists only, and a list has no hash."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _scalar(number):
    return np.int32(min(number, 2**31 - 1)) if isinstance(number, int) else np.float32(number)


def power_of_two(size, least=16):
    """The next power of two, `least` at the least."""
    return max(least, 1 << (size - 1).bit_length())
