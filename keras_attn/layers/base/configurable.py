"""Configs that follow from a constructor's signature."""

import inspect
from typing import Any

from keras_attn.layers.base.boolean_masks import BooleanMasks
from keras_attn.layers.base.composite import Composite
from keras_attn.layers.base.serialization import serialized
from keras_attn.plain_numbers import PlainNumbers


class Configurable(PlainNumbers, BooleanMasks, Composite):
    """Gives a layer the `get_config` that its constructor spells out, and with it the states of its sub-layers.

    Float masks are refused; NumPy's numbers are numbers.

    Every class in the line of descent keeps each explicit argument of its `__init__` as an attribute of that name, or
    behind an underscore where Keras has the name for something else. A class with a `get_config` of its own adds its
    own arguments there. Comes before the Keras class among the bases.
    """

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for cls in reversed(type(self).__mro__):
            if issubclass(cls, Configurable) and "__init__" in vars(cls) and "get_config" not in vars(cls):
                config |= {name: serialized(self._argument(name)) for name in _explicit(cls.__init__)}
        return config

    def _argument(self, name):
        private = f"_{name}"
        return vars(self)[private] if private in vars(self) else getattr(self, name)


def _explicit(function):
    _self, *parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
