"""Tuples of texts out of files."""

import itertools
import os
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

from keras_attn.training.data.formats import FORMATS, format_of
from keras_attn.training.data.problem_log import ProblemLog, RecordError


class Records:
    """The records of text files, each a tuple of texts, read anew by each iteration.

    A file's name says its format, whatever stands behind it compressed as `.gz`:

    | name | record | `columns` |
    | --- | --- | --- |
    | `.csv` | a row, values quoted where needed | numbers, or names that the first row holds; None for all |
    | `.tsv` | a line, values between tabs, never quoted | as for `.csv` |
    | `.jsonl`, `.ndjson`, `.json` | a JSON object a line | names of fields; `"translation.de"` for nested ones |
    | `.tfrecord`, `.tfrecords` | a `tf.train.Example` | names of features of one string or integer |
    | any other | a line of plain text | None |

    Malformed are: another number of columns than the first row's, bytes that are no UTF-8, a line that is no JSON
    object, a missing field, an empty text. A damaged file, such as a truncated `.gz`, and parallel files of unequal
    length always raise: nobody knows what is lost, or which lines belong together.

    Args:
        *files: a path, or a list of paths whose records follow each other. Several of these stand side by side, as
            parallel text does: record `i` is record `i` of each.
        columns: which values make a record, in this order; see the table.
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

    def __init__(self, *files, columns=None, format=None, on_error="raise"):
        sides = [[side] if isinstance(side, (str, os.PathLike)) else list(side) for side in files]
        if not sides or not all(sides):
            raise ValueError(f"`files` must name one file or more. Received: {files}")
        if format is not None and format not in FORMATS:
            raise ValueError(f"`format` must be one of {sorted(FORMATS)}. Received: format={format!r}")
        if isinstance(columns, str) or (columns is not None and len({type(column) for column in columns}) != 1):
            raise ValueError(f"`columns` must be a list of names, or one of numbers. Received: columns={columns!r}")
        self.sides = [[Path(path) for path in side] for side in sides]
        self.columns, self.format = columns, format
        self.on_error = ProblemLog(on_error).on_error

    def __iter__(self):
        log = ProblemLog(self.on_error)
        for _, fields in self.located(log):
            yield fields
        log.warn()

    def located(self, log):
        """Pairs of a record's place, which prints as file and line, and its texts; malformed ones go to `log`."""
        for parts in self._rows():
            log.read += 1
            for place, fields in parts:
                if problem := fields if isinstance(fields, RecordError) else _problem(fields):
                    log.refuse(place, problem)
                    break
            else:
                yield parts[0][0], tuple(text for _, fields in parts for text in fields)

    def _rows(self):
        """For each record its parts, one a side: pairs of place and texts, or what is wrong with them."""
        sides = [self._side(paths) for paths in self.sides]
        for count, parts in enumerate(itertools.zip_longest(*sides)):
            if any(part is None for part in parts):
                ended = ", ".join(
                    f"{count + (part is not None) + sum(1 for _ in side):,} in {_names(paths)}"
                    for part, side, paths in zip(parts, sides, self.sides, strict=True)
                )
                raise ValueError(f"`files` side by side must have equally many records. Received: {ended}")
            yield parts

    def _side(self, paths):
        for path in paths:
            for number, fields in FORMATS[self.format or format_of(path)](path, self.columns):
                yield Place(path, number), fields


class Place(NamedTuple):
    """Where a record begins."""

    path: Path
    number: int

    def __str__(self):
        return f"{self.path}:{self.number}"


class GivenRecords(Records):
    """Records that are in memory: an iterable of texts, or of tuples of texts and integers."""

    def __init__(self, values):
        self.values, self.on_error = values, "raise"

    def _rows(self):
        for number, value in enumerate(self.values):
            fields = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            good = all(isinstance(field, (str, Integral)) for field in fields)
            fields = tuple(map(str, fields)) if good else RecordError(f"expected texts and integers, got {value!r}")
            yield ((f"record {number}", fields),)


def as_records(values):
    """`values`, where it is no `Records`, as one."""
    if isinstance(values, (str, bytes, os.PathLike)):
        raise ValueError(f"`records` must be `Records` or an iterable of texts. Received: {values!r}")
    return values if isinstance(values, Records) else GivenRecords(values)


def _problem(fields):
    for field in fields:
        if not field.strip():
            return "a text is empty"
        if not field.isascii():
            try:
                field.encode()
            except UnicodeEncodeError:
                return "a text is no UTF-8"


def _names(paths):
    return " + ".join(str(path) for path in paths)
