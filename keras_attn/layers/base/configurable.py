"""Configs derived from constructor signatures."""

import inspect
from typing import Any

from keras_attn.layers.base.boolean_masks import BooleanMasks
from keras_attn.layers.base.composite import Composite
from keras_attn.layers.base.serialization import serialized
from keras_attn.plain_numbers import PlainNumbers


class Configurable(PlainNumbers, BooleanMasks, Composite):
    """Derives `get_config` from the constructor's signature, and adds the states of sub-layers.

    Every class in the hierarchy must store each explicit argument of its `__init__` as an attribute of the same name,
    or with a leading underscore if Keras uses that name itself. A class that overrides `get_config` adds its arguments
    there. As a mixin, this class must precede the Keras class among the bases. It also rejects float masks and accepts
    NumPy numbers.
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
