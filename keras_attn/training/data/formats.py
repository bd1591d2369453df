"""Readers of files of records, one function per format.

Each takes a path and the columns to read, and yields, for each record, the number of its first line and a tuple of
texts, or a `RecordError` if the record is malformed. If the file as a whole is damaged, so that an unknown number of
records is lost, it raises a ValueError.
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
UNCLOSED = "unexpected end of data"  # the message of the csv module
LONGEST_VALUE = 2**31 - 1  # of a CSV file; the limit of the csv module on all platforms
# In concatenated files, the mark of the second file is at the beginning of a line.
_MARK = "\ufeff"
_FRAME = 16  # bytes of a TFRecord besides its content: its length, and checksums of both
_CSV_LIMIT = threading.Lock()
# A quote opens only at the beginning of a value. In a value that begins with a quote, each quote opens or closes.
_CSV_VALUE = r'(?:(?:"[^"]*"[^",]*)+|(?!")[^,]*)'
_CLOSED = re.compile(f"{_CSV_VALUE}(?:,{_CSV_VALUE})*")


def format_of(path: Path) -> str:
    """The format of a file from its extension, a key of `FORMATS`. Defaults to "txt"."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return _SUFFIXES.get(suffixes[-1] if suffixes else "", "txt")


def read_txt(path, columns):
    """Reads plain text, one record per line."""
    if columns is not None:
        raise ValueError(f"`columns` must be None for plain text. Received: columns={columns}, file {path}")
    for number, line in _lines(path):
        yield number, (line,)


def read_tsv(path, columns):
    """Reads tab-separated values, which are never quoted."""
    rows = ((number, line.split("\t")) for number, line in _lines(path))
    return _table(path, rows, columns)


def read_csv(path, columns):
    """Reads comma-separated values, quoted if they contain commas, quotes or line ends. Blank lines are skipped."""
    lines = _QuotedLines(path)
    for number, row in _table(path, _csv_rows(path, lines), columns):
        if isinstance(row, RecordError):
            row.lines = lines.number + 1 - number
        yield number, row


def read_jsonl(path, columns):
    """Reads one JSON object per line. `a.b` is field `b` of field `a`, unless there is a field of that name."""
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
            yield number, RecordError(f"invalid JSON: {error}")


def read_tfrecord(path, columns):
    """Reads `tf.train.Example`s. The columns are features of one string or integer each."""
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
        # TensorFlow does not notice a file that ends within the length of a record.
        raise damaged(path, f"record {number}", f"{size - read:,} bytes that are not a record")


def _expanded_size(path):
    """The decompressed size of a file in bytes."""
    with open_gzip(path) as file:
        while file.read(2**20):
            check_expansion(path, file.tell())
        return file.tell()


def _lines(path):
    """Numbered lines without leading byte-order marks."""
    return ((number, line.removeprefix(_MARK)) for number, line in numbered_lines(path))


def _csv_rows(path, lines):
    reader = csv.reader(lines, strict=True)
    while True:
        lines.begin_record()
        first = lines.number + 1
        try:
            row = _next_row(reader)
        except csv.Error as error:
            # The quotes tell where the record ends. Its quoted lines must not be read as records.
            if UNCLOSED in str(error) or not lines.skip_quoted():
                lines.skip_all()
                lost = f"lines {first} to {lines.number}, {lines.number + 1 - first:,} in all, may be lost"
                raise damaged(path, f"line {first - 1}", f"a quote is never closed: {lost}") from error
            row = RecordError(f"invalid CSV: {error}")
        if row is None:
            return
        if row != []:
            yield first, row


def _next_row(reader):
    """The next row of a `csv.reader`, with values of any length; None after the last."""
    with _CSV_LIMIT:
        # The limit is global to the process, and other code may rely on it.
        limit = csv.field_size_limit(LONGEST_VALUE)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(limit)


class _QuotedLines:
    """The lines of a CSV file with their ends, for `csv.reader`. Keeps the lines of the current record."""

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
        """Skips to the end of the file."""
        for number, _ in self._lines:
            self.number = number

    def skip_quoted(self):
        """Skips to a line at whose end no quote is open. Returns whether the start of the next record is known.

        If a quote stays open to the end of the file and no later line has one, the current lines had one quote too
        many.
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
    """Whether a quote is open after a line, given whether one was open before it."""
    return _CLOSED.fullmatch('"' + line if is_open else line) is None


def _table(path, rows, columns):
    """Selects columns of rows. The first row is a header if columns are selected by name."""
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
            f"`columns` must be names that occur once in {path}: rename repeated ones in its first row. "
            f"Received: {repeated}"
        )
    return [known.index(column) for column in columns]


def _need_names(path, columns):
    if not columns or not all(isinstance(name, str) for name in columns):
        raise ValueError(f"`columns` must be the names of the fields to read from {path}. Received: columns={columns}")


def _examples(batch, columns):
    """The records of serialised Examples. Parses them one by one if some are malformed."""
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
        # TensorFlow raises a UnicodeDecodeError if its message would quote bytes that are not UTF-8.
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue
    raise RecordError(f"not an Example with strings or integers in {name!r}")


def _values(columns, values):
    for name, value in zip(columns, values, strict=True):
        if len(value) != 1:
            return RecordError(f"feature {name!r} must have one value, got {len(value)}")
    return tuple(str(v) if isinstance(v, int) else v.decode("utf-8", "surrogateescape") for (v,) in values)


FORMATS = {"txt": read_txt, "csv": read_csv, "tsv": read_tsv, "jsonl": read_jsonl, "tfrecord": read_tfrecord}
_SUFFIXES = {f".{name}": name for name in FORMATS} | {".json": "jsonl", ".ndjson": "jsonl", ".tfrecords": "tfrecord"}
