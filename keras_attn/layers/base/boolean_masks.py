"""Rejects float masks in layer calls."""

import functools
import inspect
from typing import Any

import keras

from keras_attn.ops.boolean_mask import check_boolean


class BooleanMasks:
    """Rejects float masks before a layer is called. `call` could not do so, as symbolic calls skip it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for name, value in (*zip(_positional(type(self)), args, strict=False), *kwargs.items()):
            if name == "mask" or name.endswith("_mask"):
                for mask in keras.tree.flatten(value):
                    check_boolean(name, mask)
        return super().__call__(*args, **kwargs)


@functools.cache
def _positional(layer_class):
    """The names of the call arguments of a layer, in order."""
    return tuple(inspect.signature(layer_class.call).parameters)[1:]
