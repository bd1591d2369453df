"""Tables in memory: dicts of columns, and data frames and data sets of other libraries, without importing these."""

from collections import Counter
from collections.abc import Mapping

from keras_attn.argument_checks import is_count
from keras_attn.columns import is_lazy, is_table, names_of_columns
from keras_attn.training.data.fields import field_of, text_of
from keras_attn.training.data.problem_log import RecordError

HINT = "select them with `columns=[...]`"


def column_names(table):
    """The column names of a table, in order.

    Raises:
        ValueError: If the table cannot be read by column.
    """
    names = names_of_columns(table)
    kind = type(table).__name__
    if is_lazy(table):
        raise ValueError(f"`records` must be in memory: call `collect()` first. Received: a {kind}")
    if isinstance(table, Mapping):
        if tables := [name for name in names if is_table(table[name])]:
            raise ValueError(
                f"`records` must be one table, such as `records[{tables[0]!r}]`. Received: a {kind} of {tables}"
            )
        if odd := [name for name in names if not _is_column(table[name])]:
            raise ValueError(
                "`records` must have a list or an array for each column. "
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
        names: The column names of the table.
        columns: The columns to read, by name or by number, or None.
        usual: The usual names, used if `columns` is None. If the table has as many columns, missing names are matched
            to the remaining columns in order. None for all columns.

    Raises:
        ValueError: If `columns` do not exist, or must be given.
    """
    if columns is None:
        columns = _usual_columns(names, usual) if usual else names
    heads = [_head(names, column) for column in columns]
    if missing := [column for column, head in zip(columns, heads, strict=True) if head is None]:
        raise ValueError(f"`columns` must be among {list(names)}. Received: {missing}")
    if repeated := [name for name, count in Counter(names).items() if count > 1 and name in heads]:
        raise ValueError(f"`columns` must be names that occur once. Received: {repeated}")
    return [column if column in names or isinstance(column, str) else names[column] for column in columns]


def table_rows(table, columns):
    """Yields the texts of each row of a table, or a `RecordError`. A `datasets.ClassLabel` gives class names."""
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
    """The class names of the last column (`datasets.ClassLabel`, pandas categorical, polars enum), or None."""
    names = column_names(table)
    column = chosen_columns(names, columns)[-1]
    if isinstance(getattr(table, "features", None), Mapping):
        return _feature_names(table, column)
    return _strings(getattr(getattr(table[_head(names, column)], "dtype", None), "categories", None))


def stored_label_names(table, columns=None):
    """The `label_names` of a last column that stores class numbers, or None."""
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
    """The column for a name, a number, or `a.b` (column `a`), or None."""
    if column in names:
        return column
    if isinstance(column, str):
        head, dot, _ = column.partition(".")
        return head if dot and head in names else None
    return names[column] if is_count(column) and column < len(names) else None


def _values(column):
    """The values of a column as Python objects."""
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return column
