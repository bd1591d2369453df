"""What has columns by name: a table in the place of a list of texts would be read as the names of its columns."""

from collections.abc import Mapping


def names_of_columns(value):
    """The names of the columns of a dict, a DataFrame, a `datasets.Dataset`, a `pyarrow.Table` or the like, in order;
    None for what is no table."""
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
    """Whether a value has columns by name."""
    return names_of_columns(value) is not None


def is_lazy(table):
    """Whether columns are yet to be computed, as those of a polars `LazyFrame`."""
    return hasattr(table, "collect") and not hasattr(table, "__len__")


def check_no_table(**values):
    """Raises a ValueError where a value is a table instead of one column of it."""
    for name, value in values.items():
        if (columns := names_of_columns(value)) is not None:
            raise ValueError(
                f"`{name}` must be a list, such as one column of a table. "
                f"Received: a {type(value).__name__} with columns {columns}"
            )
