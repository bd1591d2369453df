"""Checks of numbers and ids, shared by several packages."""

import numbers
import reprlib

import numpy as np

from keras_attn import compat

# Deeper than any published model.
MOST_LAYERS = 4096


def check_positive(**values):
    """Raises a ValueError unless each value is an int above 0."""
    for name, value in values.items():
        if not is_integer(value) or value <= 0:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")


def check_layers(num_layers):
    """Raises a ValueError unless `num_layers` is an int above 0 and plausible, as model files are not trusted."""
    check_positive(num_layers=num_layers)
    if num_layers > MOST_LAYERS:
        raise ValueError(f"`num_layers` must be at most {MOST_LAYERS}. Received: num_layers={num_layers}")


def check_count(**values):
    """Raises a ValueError unless each value is a non-negative int."""
    for name, value in values.items():
        if not is_count(value):
            raise ValueError(f"`{name}` must be a non-negative integer. Received: {name}={value!r}")


def check_flag(**values):
    """Raises a ValueError unless each value is True or False."""
    for name, value in values.items():
        if not isinstance(value, (int, np.bool_)) or value not in (False, True):
            raise ValueError(f"`{name}` must be True or False. Received: {name}={reprlib.repr(value)}")


def check_positive_number(**values):
    """Raises a ValueError unless each value is a finite number above 0."""
    for name, value in values.items():
        if not is_number(value) or not 0 < value < float("inf"):
            raise ValueError(f"`{name}` must be a positive number. Received: {name}={value!r}")


def check_finite(**values):
    """Raises a ValueError unless each value is a finite number."""
    for name, value in values.items():
        if not is_number(value) or not abs(value) < float("inf"):
            raise ValueError(f"`{name}` must be a finite number. Received: {name}={value!r}")


def check_probability(**values):
    """Raises a ValueError unless each value is above 0 and at most 1."""
    for name, value in values.items():
        if not is_number(value) or not 0 < value <= 1:
            raise ValueError(f"`{name}` must be above 0, and 1 at most. Received: {name}={value!r}")


def check_ids(**values):
    """Raises a ValueError unless each value is a non-empty tuple of ids."""
    for name, value in values.items():
        if not isinstance(value, tuple) or not value or not all(map(is_count, value)):
            raise ValueError(
                f"`{name}` must be a tuple, not empty, of non-negative integers. Received: {name}={reprlib.repr(value)}"
            )


def check_vocabulary(vocabulary_size, **values):
    """Raises a ValueError if a value, or an element of a tuple or array, is not an id of the vocabulary."""
    for name, value in values.items():
        ids = np.ravel(value)
        # Comparisons with NaN are False.
        is_known = (ids >= 0) & (ids < vocabulary_size)
        if np.issubdtype(ids.dtype, np.floating):
            is_known &= ids == np.floor(ids)
        stray = ids[~is_known]
        if stray.size:
            raise ValueError(
                f"`{name}` must hold ids of the vocabulary, 0 to {vocabulary_size - 1}. "
                f"Received: {reprlib.repr(stray.tolist())}"
            )


def check_padding(model, **pad_ids):
    """Raises a ValueError if one of `pad_ids` differs from the padding id of a layer of the model."""
    for name, pad_id in pad_ids.items():
        for layer in compat.layers_of(model, include_self=False):
            masked = 0 if getattr(layer, "mask_zero", False) else getattr(layer, "pad_id", -1)
            if masked not in (-1, pad_id):
                raise ValueError(
                    f"`{name}` must use the padding id of the model, {masked} in its layer {layer.name!r}. "
                    f"Received: {name} with padding id {pad_id}; give the model `pad_id={pad_id}`"
                )


def is_number(value):
    """Whether `value` is a real number of Python or NumPy, and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value):
    """Whether `value` is an integer of Python or NumPy, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_count(value):
    """Whether `value` is a non-negative integer."""
    return is_integer(value) and value >= 0
