"""NumPy's numbers as Python's."""

import functools
import inspect

import numpy as np


class PlainNumbers:
    """Gives constructors Python's numbers for NumPy's, in lists, tuples and dicts too.

    What Keras and JSON make of NumPy's differs from place to place, and products of small ones overflow. Comes before
    the other classes among the bases; fields of a dataclass with a `__post_init__`, its own or inherited, change too.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _with_plain_arguments(cls.__init__)
        if "__post_init__" in vars(cls):
            cls.__post_init__ = _with_plain_fields(cls.__post_init__)


def plain(value):
    """A value without numbers of NumPy's: Python's in their place; the value itself where it has none."""
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

    # Keras reads names of arguments by `inspect.getfullargspec`, which looks into no wrapper.
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
