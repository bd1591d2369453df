"""Conversion of NumPy numbers to Python numbers."""

import functools
import inspect

import numpy as np


class PlainNumbers:
    """Converts NumPy numbers in constructor arguments to Python numbers, including those in lists, tuples and dicts.

    Keras and JSON handle NumPy numbers inconsistently, and products of small integer types overflow. Put this class
    first among the bases. It also converts the fields of a dataclass with a `__post_init__`, its own or inherited.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _with_plain_arguments(cls.__init__)
        if "__post_init__" in vars(cls):
            cls.__post_init__ = _with_plain_fields(cls.__post_init__)


def plain(value):
    """The value with NumPy numbers converted to Python numbers. Returns the value itself if it has none."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        entries = {name: plain(entry) for name, entry in value.items()}
        return entries if any(entries[name] is not entry for name, entry in value.items()) else value
    if type(value) in (list, tuple):
        entries = [plain(entry) for entry in value]
        return type(value)(entries) if any(a is not b for a, b in zip(entries, value, strict=True)) else value
    return value


def _with_plain_arguments(init):
    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        return init(self, *plain(args), **plain(kwargs))

    # Keras reads argument names with `inspect.getfullargspec`, which does not follow wrappers.
    wrapper.__signature__ = inspect.signature(init)
    return wrapper


def _with_plain_fields(post_init):
    @functools.wraps(post_init)
    def wrapper(self):
        for name, value in vars(self).items():
            if (changed := plain(value)) is not value:
                object.__setattr__(self, name, changed)
        post_init(self)

    return wrapper
