"""Records of text from files and tables."""

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
    """Iterates over the records of text files and tables, each a tuple of texts. Each iteration reads the files again.

    The format is inferred from the extension; `.gz` files are decompressed on the fly:

    | extension | record | `columns` |
    | --- | --- | --- |
    | `.csv` | a row, values quoted where needed | numbers, or names in the first row; None for all |
    | `.tsv` | a line of tab-separated values, never quoted | as for `.csv` |
    | `.jsonl`, `.ndjson`, `.json` | a line with a JSON object | names of fields; `"translation.de"` for nested ones |
    | `.tfrecord`, `.tfrecords` | a `tf.train.Example` | names of features of one string or integer |
    | any other | a line of plain text | None |

    Instead of a path, a table in memory may be given: a dict of columns, a DataFrame of pandas or polars, a
    `datasets.Dataset` or a `pyarrow.Table`. Its `columns` are names, `"translation.de"` for a field of a column of
    dicts, or numbers, or None for all.

    Classes of a `datasets.ClassLabel` are returned as names. Blank lines of a `.csv` are skipped.

    A record is malformed if it has another number of columns than the first row, invalid UTF-8, a missing field, an
    empty text or NUL characters, or is not a JSON object. `on_error` applies to malformed records only. Other problems
    always raise an error: damaged files, such as a truncated `.gz`, a `.tfrecord` that ends within a record or a `.csv`
    with an unclosed quote; parallel files of unequal length; files in UTF-16; lines of more than 67 million characters;
    compressed files that expand to more than 256 MiB and 200 times their size; and pipes, which cannot be read twice.
    Columns selected by name must occur once.

    Byte-order marks at the beginning of lines, as in concatenated files, are removed.

    Args:
        *files: A path, a list of paths whose records are concatenated, or a table. Several arguments are read in
            parallel: record `i` consists of record `i` of each.
        columns: The values that form a record, in order; see the table above.
        format: "txt", "csv", "tsv", "jsonl" or "tfrecord". Defaults to the format of the extension.
        on_error: How to handle malformed records: "raise" raises a ValueError with file and line, "skip" skips them
            with a warning that counts them and lists the first.

    Yields:
        Tuples of str.

    Raises:
        ValueError: If an argument or, during iteration, a record is invalid.

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
            raise ValueError(f"`files` must be at least one file. Received: {files}")
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
        """Yields pairs of a record's place (file and line) and its texts. Malformed records go to `log`."""
        for parts in self._rows():
            log.read += 1
            for place, fields in parts:
                if problem := fields if isinstance(fields, RecordError) else _problem(fields):
                    log.reject(place, problem)
                    break
            else:
                yield parts[0][0], tuple(text for _, fields in parts for text in fields)

    def label_names(self) -> list[str] | None:
        """The ordered class names of the last column, if a table stores them, or None."""
        return self._names_of(label_names)

    def stored_label_names(self) -> list[str] | None:
        """The `label_names` of a last column that stores class numbers, such as a `datasets.ClassLabel`, or None."""
        return self._names_of(stored_label_names)

    def _names_of(self, find):
        found = [find(part, self.columns) if is_table(part) else None for part in self.sides[-1]]
        return found[0] if all(names == found[0] for names in found) else None

    def _rows(self):
        """Yields the parts of each record, one per side: pairs of place and texts or `RecordError`."""
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
                raise ValueError(f"Parallel `files` must have the same number of records. Received: {ended}")
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
    """The file and line at which a record begins."""

    path: Path
    number: int

    def __str__(self):
        return f"{self.path}:{self.number}"


class GivenRecords(Records):
    """Records in memory: an iterable of texts, of tuples of texts and integers, or of dicts of them."""

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
    """Converts values to `Records`, unless they are.

    Args:
        values: `Records`, a table, or an iterable of texts, of tuples or of dicts.
        columns: Columns of a table, or fields of dicts, that form a record.
        usual: Their usual names, used if `columns` is None; see `chosen_columns`.
    """
    if isinstance(values, Records):
        if columns is not None:
            raise ValueError(f"`columns` must be passed to `Records` instead. Received: columns={columns}")
        return values
    if isinstance(values, (str, bytes, os.PathLike)):
        raise ValueError(f"`records` must be `Records`, a table or an iterable of texts. Received: {values!r}")
    if is_table(values):
        return Records(values, columns=chosen_columns(column_names(values), checked_columns(columns), usual))
    return GivenRecords(values, columns, usual)


def checked_columns(columns: Sequence[int | str] | None) -> list[int | str] | None:
    """Returns `columns` as a list, or None. Raises a ValueError unless all are names or all are numbers."""
    if columns is None:
        return None
    if isinstance(columns, (str, bytes, int)) or len({type(column) for column in columns}) != 1:
        raise ValueError(f"`columns` must be a list of names, or a list of numbers. Received: columns={columns!r}")
    return list(columns)


def _check_file(path):
    """Raises an error if a file is missing or not a regular file."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise ValueError(
            f"`files` must be regular files, because each iteration reads them again. Received: {path}, {kind}"
        )


def _problem(fields):
    for field in fields:
        if not field.strip():
            return "a text is empty"
        if not is_unicode(field):
            return "a text is not UTF-8"
        if "\0" in field:
            return "a text contains NUL characters, as in UTF-16"


def _names(parts):
    return " + ".join(f"a {type(part).__name__}" if is_table(part) else str(part) for part in parts)
