"""Tables in memory: dicts of columns, and data frames and data sets of other libraries, none of which it imports."""

from collections import Counter
from collections.abc import Mapping

from keras_attn.argument_checks import is_count
from keras_attn.columns import is_lazy, is_table, names_of_columns
from keras_attn.training.data.fields import field_of, text_of
from keras_attn.training.data.problem_log import RecordError

HINT = "choose them by `columns=[...]`"


def column_names(table):
    """The names of a table's columns, in order.

    Raises:
        ValueError: it is a table that cannot be read column by column.
    """
    names = names_of_columns(table)
    kind = type(table).__name__
    if is_lazy(table):
        raise ValueError(f"`records` must be in memory: call `collect()` first. Received: a {kind}")
    if isinstance(table, Mapping):
        if tables := [name for name in names if is_table(table[name])]:
            raise ValueError(
                f"`records` must be one table, as `records[{tables[0]!r}]`. Received: a {kind} of {tables}"
            )
        if odd := [name for name in names if not _is_column(table[name])]:
            raise ValueError(
                "`records` must hold a list or an array for each column. "
                f"Received: {type(table[odd[0]]).__name__} for {odd[0]!r}"
            )
        lengths = {name: len(table[name]) for name in names}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"`records` must have columns of equal length. Received: {lengths}")
    if not names:
        raise ValueError(f"`records` must have columns. Received: a {kind} without any")
    return names


def chosen_columns(names, columns, usual=None):
    """The names of the columns to read.

    Args:
        names: those of the table.
        columns: those asked for, by name or by number, or None.
        usual: the names that columns usually have, where `columns` is None; those that a table lacks are its other
            columns, in order, if there are just as many. None for all columns.

    Raises:
        ValueError: `columns` are not there, or have to be given.
    """
    if columns is None:
        columns = _usual_columns(names, usual) if usual else names
    heads = [_head(names, column) for column in columns]
    if missing := [column for column, head in zip(columns, heads, strict=True) if head is None]:
        raise ValueError(f"`columns` must be among {list(names)}. Received: {missing}")
    if repeated := [name for name, count in Counter(names).items() if count > 1 and name in heads]:
        raise ValueError(f"`columns` must name columns that are there once. Received: {repeated}")
    return [column if column in names or isinstance(column, str) else names[column] for column in columns]


def table_rows(table, columns):
    """For each row of a table its texts, or the `RecordError` that says what is wrong with it. A class that is stored
    as its number, as in a `datasets.ClassLabel`, is given by its name."""
    names = column_names(table)
    chosen = chosen_columns(names, columns)
    heads = [_head(names, name) for name in chosen]
    classes = [_feature_names(table, name) for name in chosen]
    for values in zip(*(_values(table[head]) for head in heads), strict=True):
        fields = zip(heads, chosen, values, classes, strict=True)
        try:
            yield tuple(_text(field_of({head: value}, name), name, known) for head, name, value, known in fields)
        except RecordError as problem:
            yield problem


def label_names(table, columns=None):
    """The names of classes that the last column of a table knows in order, or None: those of a `datasets.ClassLabel`, a
    pandas categorical and a polars enum."""
    names = column_names(table)
    column = chosen_columns(names, columns)[-1]
    if isinstance(getattr(table, "features", None), Mapping):
        return _feature_names(table, column)
    return _strings(getattr(getattr(table[_head(names, column)], "dtype", None), "categories", None))


def stored_label_names(table, columns=None):
    """The `label_names` of a last column that stores their numbers, or None."""
    return _feature_names(table, chosen_columns(column_names(table), columns)[-1])


def _feature_names(table, column):
    features = getattr(table, "features", None)
    return _strings(getattr(features.get(column), "names", None)) if isinstance(features, Mapping) else None


def _strings(names):
    names = None if names is None else list(names)
    return names if names and all(isinstance(name, str) for name in names) else None


def _text(value, name, classes):
    text = text_of(value, name)
    if classes and not isinstance(value, str) and text.isdecimal() and int(text) < len(classes):
        return classes[int(text)]
    return text


def _is_column(value):
    return not isinstance(value, (str, bytes)) and all(hasattr(value, name) for name in ("__len__", "__getitem__"))


def _usual_columns(names, usual):
    known = [name for name in usual if names.count(name) == 1]
    others = iter([name for name in names if name not in known])
    if len(known) < len(usual) != len(names) or len(set(names)) < len(names):
        wanted = "a column" if len(usual) == 1 else f"{len(usual)} columns"
        raise ValueError(f"`records` must have {wanted} for {' and '.join(usual)}: {HINT}. Received: columns {names}")
    return [name if name in known else next(others) for name in usual]


def _head(names, column):
    """The column that holds what is asked for: by name, by number, or `a` for `a.b`; None where there is none."""
    if column in names:
        return column
    if isinstance(column, str):
        head, dot, _ = column.partition(".")
        return head if dot and head in names else None
    return names[column] if is_count(column) and column < len(names) else None


def _values(column):
    """The values of a column as Python has them."""
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return column
