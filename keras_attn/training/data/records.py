"""Tuples of texts out of files and tables."""

import itertools
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_attn.columns import is_table
from keras_attn.lines import is_unicode
from keras_attn.training.data.fields import field_of, text_of
from keras_attn.training.data.formats import FORMATS, format_of
from keras_attn.training.data.problem_log import ProblemLog, RecordError
from keras_attn.training.data.tables import chosen_columns, column_names, label_names, stored_label_names, table_rows


class Records:
    """The records of text files and of tables, each a tuple of texts, read anew by each iteration.

    A file's name says its format, whatever stands behind it compressed as `.gz`:

    | name | record | `columns` |
    | --- | --- | --- |
    | `.csv` | a row, values quoted where needed | numbers, or names that the first row holds; None for all |
    | `.tsv` | a line, values between tabs, never quoted | as for `.csv` |
    | `.jsonl`, `.ndjson`, `.json` | a JSON object a line | names of fields; `"translation.de"` for nested ones |
    | `.tfrecord`, `.tfrecords` | a `tf.train.Example` | names of features of one string or integer |
    | any other | a line of plain text | None |

    In the place of a path may be a table in memory: a dict of columns, a DataFrame of pandas or polars, a
    `datasets.Dataset`, a `pyarrow.Table`. Its `columns` are names, `"translation.de"` for a field of a column of dicts,
    or numbers, or None for all.

    Classes of a `datasets.ClassLabel` are given by name. Blank lines of a `.csv` are skipped.

    Malformed are: another number of columns than the first row's, bytes that are no UTF-8, a line that is no JSON
    object, a missing field, an empty text, NUL characters. A damaged file, such as a truncated `.gz`, a `.tfrecord`
    that ends within a record or a `.csv` with a quote that is never closed, and parallel files of unequal length always
    raise: nobody knows what is lost, or which lines belong together. So do files in UTF-16, lines of more than 67
    million characters, and compressed files of more than 256 MiB of text that expand to 200 times their size. Files are
    regular ones: a pipe could not be read anew. Columns that are asked for by name must be there once.

    A byte-order mark at the beginning of a line, as files that were put together have it, is no part of the text.

    Args:
        *files: a path, or a list of paths whose records follow each other, or a table. Several of these stand side by
            side, as parallel text does: record `i` is record `i` of each.
        columns: which values make a record, in this order; see the table of formats.
        format: "txt", "csv", "tsv", "jsonl" or "tfrecord", where names do not say it.
        on_error: what becomes of malformed records: "raise" raises a ValueError that names file and line, "skip" leaves
            them out, and warns, names and counts them.

    Yields:
        Tuples of str.

    Raises:
        ValueError: an argument is not as above, or, once it is iterated, a record.

    Example:

    >>> from pathlib import Path
    >>> from keras_attn.training import Records
    >>> _ = Path("dates.csv").write_text("text,date,note\\n5. Mai 2019,2019-05-05,-\\n'6. Mai, 2019',2019-05-06,-\\n")
    >>> list(Records("dates.csv", columns=["date", "text"], on_error="raise"))
    Traceback (most recent call last):
    ValueError: ... Received: dates.csv:3: expected 3 columns, got 4
    """

    def __init__(
        self,
        *files: Any,
        columns: Sequence[int | str] | None = None,
        format: str | None = None,
        on_error: str = "raise",
    ) -> None:
        sides = [[side] if isinstance(side, (str, os.PathLike)) or is_table(side) else list(side) for side in files]
        if not sides or not all(sides):
            raise ValueError(f"`files` must name one file or more. Received: {files}")
        if format is not None and format not in FORMATS:
            raise ValueError(f"`format` must be one of {sorted(FORMATS)}. Received: format={format!r}")
        self.sides: list[list[Any]] = [[part if is_table(part) else Path(part) for part in side] for side in sides]
        self.columns, self.format = checked_columns(columns), format
        self.on_error = ProblemLog(on_error).on_error

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        log = ProblemLog(self.on_error)
        for _, fields in self.located(log):
            yield fields
        log.warn()

    def located(self, log: ProblemLog) -> Iterator[tuple[Any, tuple[str, ...]]]:
        """Pairs of a record's place, which prints as file and line, and its texts; malformed ones go to `log`."""
        for parts in self._rows():
            log.read += 1
            for place, fields in parts:
                if problem := fields if isinstance(fields, RecordError) else _problem(fields):
                    log.refuse(place, problem)
                    break
            else:
                yield parts[0][0], tuple(text for _, fields in parts for text in fields)

    def label_names(self) -> list[str] | None:
        """The names of the classes that the last column knows in order, or None: those of a table may."""
        return self._names_of(label_names)

    def stored_label_names(self) -> list[str] | None:
        """The `label_names` of a last column that stores their numbers, as a `datasets.ClassLabel` does, or None."""
        return self._names_of(stored_label_names)

    def _names_of(self, find):
        found = [find(part, self.columns) if is_table(part) else None for part in self.sides[-1]]
        return found[0] if all(names == found[0] for names in found) else None

    def _rows(self):
        """For each record its parts, one a side: pairs of place and texts, or what is wrong with them."""
        for part in itertools.chain(*self.sides):
            if not is_table(part):
                _check_file(part)
        sides = [self._side(paths) for paths in self.sides]
        for count, parts in enumerate(itertools.zip_longest(*sides)):
            if any(part is None for part in parts):
                ended = ", ".join(
                    f"{count + (part is not None) + sum(1 for _ in side):,} in {_names(paths)}"
                    for part, side, paths in zip(parts, sides, self.sides, strict=True)
                )
                raise ValueError(f"`files` side by side must have equally many records. Received: {ended}")
            yield parts

    def _side(self, parts):
        for part in parts:
            if is_table(part):
                for number, fields in enumerate(table_rows(part, self.columns)):
                    yield f"record {number}", fields
            else:
                for number, fields in FORMATS[self.format or format_of(part)](part, self.columns):
                    yield Place(part, number), fields


class Place(NamedTuple):
    """Where a record begins."""

    path: Path
    number: int

    def __str__(self):
        return f"{self.path}:{self.number}"


class GivenRecords(Records):
    """Records that are in memory: an iterable of texts, of tuples of texts and integers, or of dicts of them."""

    def __init__(self, values, columns=None, usual=None):
        self.sides, self.values, self.on_error = [[values]], values, "raise"
        self.columns, self._usual = checked_columns(columns), usual

    def _rows(self):
        columns = None
        for number, value in enumerate(self.values):
            if isinstance(value, Mapping) and columns is None:
                columns = chosen_columns(list(value), self.columns, self._usual)
            try:
                yield ((f"record {number}", self._fields(value, columns)),)
            except RecordError as problem:
                yield ((f"record {number}", problem),)

    def _fields(self, value, columns):
        if isinstance(value, Mapping):
            return tuple(text_of(field_of(value, name), name) for name in columns)
        if self.columns is not None:
            raise ValueError(f"`columns` must be None for records without names. Received: columns={self.columns}")
        try:
            return tuple(map(text_of, value if isinstance(value, (tuple, list)) else (value,)))
        except RecordError:
            raise RecordError(f"expected texts and integers, got {value!r}") from None


def as_records(values, columns=None, usual=None):
    """`values`, where it is no `Records`, as one.

    Args:
        values: `Records`, a table, or an iterable of texts, of tuples or of dicts.
        columns: which columns of a table, or fields of dicts, make a record.
        usual: the names of these where `columns` is None, see `chosen_columns`.
    """
    if isinstance(values, Records):
        if columns is not None:
            raise ValueError(f"`columns` must be given to `Records` itself. Received: columns={columns}")
        return values
    if isinstance(values, (str, bytes, os.PathLike)):
        raise ValueError(f"`records` must be `Records`, a table or an iterable of texts. Received: {values!r}")
    if is_table(values):
        return Records(values, columns=chosen_columns(column_names(values), checked_columns(columns), usual))
    return GivenRecords(values, columns, usual)


def checked_columns(columns: Sequence[int | str] | None) -> list[int | str] | None:
    """`columns` as a list, where they are given; a ValueError unless they are names, or numbers."""
    if columns is None:
        return None
    if isinstance(columns, (str, bytes, int)) or len({type(column) for column in columns}) != 1:
        raise ValueError(f"`columns` must be a list of names, or one of numbers. Received: columns={columns!r}")
    return list(columns)


def _check_file(path):
    """Raises what says that there is no file, or none that can be read more than once."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise ValueError(f"`files` must be regular files, as each iteration reads them anew. Received: {path}, {kind}")


def _problem(fields):
    for field in fields:
        if not field.strip():
            return "a text is empty"
        if not is_unicode(field):
            return "a text is no UTF-8"
        if "\0" in field:
            return "a text holds NUL characters, as one in UTF-16 does"


def _names(parts):
    return " + ".join(f"a {type(part).__name__}" if is_table(part) else str(part) for part in parts)
