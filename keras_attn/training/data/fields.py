"""Access to fields of records."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np

from keras_attn.training.data.problem_log import RecordError


class _Repeated:
    """Marks a field that occurs more than once in a record."""


def unique_fields(pairs):
    """A dict of `(name, value)` pairs. A name that occurs more than once maps to a `_Repeated`."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        fields |= {name: _Repeated() for name in fields if names.count(name) > 1}
    return fields


def field_of(record, name):
    """Looks up a field of a dict. `a.b` is field `b` of field `a`, unless there is a field of that name."""
    if name in record:
        return record[name]
    head, dot, rest = name.partition(".") if isinstance(name, str) else (name, "", "")
    if dot and isinstance(record.get(head), Mapping):
        return field_of(record[head], rest)
    raise RecordError(f"no field {name!r}")


def text_of(value, name=None):
    """Converts a string, integer or boolean field to text.

    Raises:
        RecordError: If the value has another type.
    """
    if isinstance(value, (str, Integral, np.bool_)):
        return str(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return text_of(value.item(), name)
    what = "a value" if name is None else f"field {name!r}"
    if isinstance(value, _Repeated):
        raise RecordError(f"{what} must occur once")
    raise RecordError(f"{what} must be a string or an integer, got {type(value).__name__}")
