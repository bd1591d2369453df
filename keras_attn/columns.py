"""Detects tables with named columns, which would be read as lists of their column names otherwise."""

from collections.abc import Mapping


def names_of_columns(value):
    """The column names of a table (dict, DataFrame, `datasets.Dataset`, `pyarrow.Table`, ...), or None for other
    values."""
    if isinstance(value, Mapping):
        return list(value)
    if isinstance(value, type) or not hasattr(value, "__getitem__"):
        return None
    if is_lazy(value):
        return []
    for attribute in ("column_names", "columns"):
        names = getattr(value, attribute, None)
        if names is not None and not callable(names):
            return list(names)
    return None


def is_table(value):
    """Whether a value has named columns."""
    return names_of_columns(value) is not None


def is_lazy(table):
    """Whether the columns are not computed yet, as in a polars `LazyFrame`."""
    return hasattr(table, "collect") and not hasattr(table, "__len__")


def check_no_table(**values):
    """Raises a ValueError if a value is a table instead of one of its columns."""
    for name, value in values.items():
        if (columns := names_of_columns(value)) is not None:
            raise ValueError(
                f"`{name}` must be a list, such as one column of a table. "
                f"Received: a {type(value).__name__} with columns {columns}"
            )
