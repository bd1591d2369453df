"""Masks are boolean, in every call of every layer."""

import functools
import inspect
from typing import Any

import keras

from keras_attn.ops.boolean_mask import check_boolean


class BooleanMasks:
    """Refuses float masks before a layer is called; a symbolic call never reaches `call`.

    Every call argument is looked at that is called `mask`, or `..._mask`. Comes before the Keras class among the bases.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for name, value in (*zip(_positional(type(self)), args, strict=False), *kwargs.items()):
            if name == "mask" or name.endswith("_mask"):
                for mask in keras.tree.flatten(value):
                    check_boolean(name, mask)
        return super().__call__(*args, **kwargs)


@functools.cache
def _positional(layer_class):
    """The names of the arguments of a layer's call, in their order."""
    return tuple(inspect.signature(layer_class.call).parameters)[1:]
