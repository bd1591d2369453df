"""How records stand in files: one function a format.

Each takes a path and the columns asked for, and yields, for each record, the number of its first line and a tuple of
texts; or, in the place of this, a `RecordError` that says what is wrong with it. What is wrong with a file as a whole,
so that nobody knows how many records are lost, is a ValueError.
"""

import csv
import gzip
import json
import re
import threading
import zlib
from collections import Counter
from pathlib import Path

from keras_attn.lines import LONGEST_LINE, check_expansion, damaged, numbered_lines, open_gzip
from keras_attn.training.data.fields import field_of, text_of, unique_fields
from keras_attn.training.data.problem_log import RecordError

CHUNK = 1024
UNCLOSED = "unexpected end of data"  # the words of the csv module
LONGEST_VALUE = 2**31 - 1  # of a CSV file; the most that the csv module knows everywhere
# Two files that were put together leave the mark of the second at the beginning of a line.
_MARK = "\ufeff"
_FRAME = 16  # bytes of a TFRecord beside its content: its length, and checksums of both
_CSV_LIMIT = threading.Lock()
# A quote opens only at the beginning of a value; in a value that begins with one, each opens or closes.
_CSV_VALUE = r'(?:(?:"[^"]*"[^",]*)+|(?!")[^,]*)'
_CLOSED = re.compile(f"{_CSV_VALUE}(?:,{_CSV_VALUE})*")


def format_of(path: Path) -> str:
    """The format that a file's name says: a key of `FORMATS`, "txt" where it says none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return _SUFFIXES.get(suffixes[-1] if suffixes else "", "txt")


def read_txt(path, columns):
    """Plain text, one a line."""
    if columns is not None:
        raise ValueError(f"`columns` must be None for plain text. Received: columns={columns}, file {path}")
    for number, line in _lines(path):
        yield number, (line,)


def read_tsv(path, columns):
    """Values between tabs, which are never quoted."""
    rows = ((number, line.split("\t")) for number, line in _lines(path))
    return _table(path, rows, columns)


def read_csv(path, columns):
    """Values between commas, quoted if they hold commas, quotes or line ends. Blank lines are no records."""
    lines = _QuotedLines(path)
    for number, row in _table(path, _csv_rows(path, lines), columns):
        if isinstance(row, RecordError):
            row.lines = lines.number + 1 - number
        yield number, row


def read_jsonl(path, columns):
    """A JSON object a line. `a.b` is the field `b` of the field `a`, unless there is one of that name."""
    _need_names(path, columns)
    for number, line in _lines(path):
        try:
            record = json.loads(line, object_pairs_hook=unique_fields)
            if not isinstance(record, dict):
                raise RecordError(f"expected a JSON object, got {type(record).__name__}")
            yield number, tuple(text_of(field_of(record, name), name) for name in columns)
        except RecordError as problem:
            yield number, problem
        except (ValueError, RecursionError) as error:
            yield number, RecordError(f"no JSON: {error}")


def read_tfrecord(path, columns):
    """`tf.train.Example`s whose features, of one string or integer each, are the columns."""
    import tensorflow as tf

    _need_names(path, columns)
    is_compressed = path.suffix.lower() == ".gz"
    number = read = 0
    try:
        size = _expanded_size(path) if is_compressed else path.stat().st_size
        for batch in tf.data.TFRecordDataset(str(path), "GZIP" if is_compressed else "").batch(CHUNK):
            read += int(tf.reduce_sum(tf.cast(tf.strings.length(batch), tf.int64))) + _FRAME * len(batch)
            for record in _examples(batch, columns):
                number += 1
                yield number, record
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, f"record {number}", getattr(error, "message", error)) from error
    if read != size:
        # TensorFlow takes a file that ends within the length of a record for one that ends before it.
        raise damaged(path, f"record {number}", f"{size - read:,} bytes that are no record")


def _expanded_size(path):
    """How many bytes a compressed file holds."""
    with open_gzip(path) as file:
        while file.read(2**20):
            check_expansion(path, file.tell())
        return file.tell()


def _lines(path):
    """Numbers and lines, without the byte-order marks at their beginnings."""
    return ((number, line.removeprefix(_MARK)) for number, line in numbered_lines(path))


def _csv_rows(path, lines):
    reader = csv.reader(lines, strict=True)
    while True:
        lines.begin_record()
        first = lines.number + 1
        try:
            row = _next_row(reader)
        except csv.Error as error:
            # Where the record ends, its quotes say: what is inside them must not become records.
            if UNCLOSED in str(error) or not lines.skip_quoted():
                lines.skip_all()
                lost = f"lines {first} to {lines.number}, {lines.number + 1 - first:,} in all, may be lost"
                raise damaged(path, f"line {first - 1}", f"a quote is never closed: {lost}") from error
            row = RecordError(f"no CSV: {error}")
        if row is None:
            return
        if row != []:
            yield first, row


def _next_row(reader):
    """The next row of a `csv.reader`, whatever the length of its values; None after the last."""
    with _CSV_LIMIT:
        # A limit of the whole process, which others may rely on.
        limit = csv.field_size_limit(LONGEST_VALUE)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(limit)


class _QuotedLines:
    """The lines of a CSV file with their ends, for `csv.reader`; it keeps those of the record so far."""

    def __init__(self, path):
        self._path, self._lines, self.number = path, numbered_lines(path, keep_ends=True), 0
        self.begin_record()

    def begin_record(self):
        self._record, self._length = [], 0

    def __iter__(self):
        return self

    def __next__(self):
        self.number, line = next(self._lines)
        if not self._record:
            line = line.removeprefix(_MARK)
        self._record.append(line)
        self._length += len(line)
        if self._length > LONGEST_LINE:
            begun = f"line {self.number - len(self._record)}"
            raise damaged(self._path, begun, f"a record of more than {LONGEST_LINE:,} characters: is a quote open?")
        return line

    def skip_all(self):
        """Goes on to the end of the file."""
        for number, _ in self._lines:
            self.number = number

    def skip_quoted(self):
        """Goes on to the line at whose end no quote is open; returns whether it is known where the next record begins.

        Where a quote stays open to the end, one quote was too many in the lines so far, if none stands behind them.
        """
        is_open, count = False, len(self._record)
        for line in self._record:
            is_open = _is_open_after(line, is_open)
        while is_open:
            if (line := next(self, None)) is None:
                rest = self._record[count:]
                self.number -= len(rest)
                self._lines = iter(list(enumerate(rest, self.number + 1)))
                return not any('"' in line for line in rest)
            is_open = _is_open_after(line, is_open)
        return True


def _is_open_after(line, is_open):
    """Whether a quote is open after a line, given whether one is before it."""
    return _CLOSED.fullmatch('"' + line if is_open else line) is None


def _table(path, rows, columns):
    """Columns of rows, of which the first is a header where columns are asked for by name."""
    count = indexes = None
    for number, row in rows:
        if isinstance(row, RecordError):
            yield number, row
            continue
        if count is None:
            count, indexes = len(row), _indexes(path, row, columns)
            if columns and isinstance(columns[0], str):
                continue
        if len(row) == count:
            yield number, tuple(row[i] for i in indexes)
        else:
            yield number, RecordError(f"expected {count} columns, got {len(row)}")


def _indexes(path, first, columns):
    if columns is None:
        return range(len(first))
    known = first if isinstance(columns[0], str) else range(len(first))
    if missing := [column for column in columns if column not in known]:
        raise ValueError(f"`columns` must be among {list(known)} of {path}. Received: {missing}")
    if repeated := [column for column, count in Counter(known).items() if count > 1 and column in columns]:
        raise ValueError(
            f"`columns` must name columns that {path} has once each: rename the others in its first row. "
            f"Received: {repeated}"
        )
    return [known.index(column) for column in columns]


def _need_names(path, columns):
    if not columns or not all(isinstance(name, str) for name in columns):
        raise ValueError(f"`columns` must name the fields to read from {path}. Received: columns={columns}")


def _examples(batch, columns):
    """The records of serialised Examples: all at once, or one by one where some cannot be parsed."""
    try:
        features = [_feature(batch, name) for name in columns]
    except RecordError as problem:
        if len(batch) == 1:
            return [problem]
        return (record for i in range(len(batch)) for record in _examples(batch[i : i + 1], columns))
    return (_values(columns, values) for values in zip(*features, strict=True))


def _feature(batch, name):
    import tensorflow as tf

    for dtype in (tf.string, tf.int64):
        try:
            return tf.io.parse_example(batch, {name: tf.io.RaggedFeature(dtype)})[name].to_list()
        # TensorFlow cannot say what is wrong where the bytes that it quotes are no UTF-8.
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue
    raise RecordError(f"no Example with strings or integers in {name!r}")


def _values(columns, values):
    for name, value in zip(columns, values, strict=True):
        if len(value) != 1:
            return RecordError(f"feature {name!r} must hold one value, got {len(value)}")
    return tuple(str(v) if isinstance(v, int) else v.decode("utf-8", "surrogateescape") for (v,) in values)


FORMATS = {"txt": read_txt, "csv": read_csv, "tsv": read_tsv, "jsonl": read_jsonl, "tfrecord": read_tfrecord}
_SUFFIXES = {f".{name}": name for name in FORMATS} | {".json": "jsonl", ".ndjson": "jsonl", ".tfrecords": "tfrecord"}
