"""Fields of records: by name, and as text."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np

from keras_attn.training.data.problem_log import RecordError


class _Repeated:
    """The value of a field that a record holds more than once."""


def unique_fields(pairs):
    """A dict of `(name, value)`s in which a name that is there more than once has no value."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        fields |= {name: _Repeated() for name in fields if names.count(name) > 1}
    return fields


def field_of(record, name):
    """The field of a dict. `a.b` is the field `b` of the field `a`, unless there is one of that name."""
    if name in record:
        return record[name]
    head, dot, rest = name.partition(".") if isinstance(name, str) else (name, "", "")
    if dot and isinstance(record.get(head), Mapping):
        return field_of(record[head], rest)
    raise RecordError(f"no field {name!r}")


def text_of(value, name=None):
    """A field as text: a string as it is, and an integer or a boolean as Python prints it.

    Raises:
        RecordError: it is something else.
    """
    if isinstance(value, (str, Integral, np.bool_)):
        return str(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return text_of(value.item(), name)
    what = "a value" if name is None else f"field {name!r}"
    if isinstance(value, _Repeated):
        raise RecordError(f"{what} must be there once")
    raise RecordError(f"{what} must be a string or an integer, got {type(value).__name__}")
