"""How records stand in files: one function a format.

Each takes a path and the columns asked for, and yields, for each record, the number of its first line and a tuple of
texts; or, in the place of this, a `RecordError` that says what is wrong with it. What is wrong with a file as a whole,
so that nobody knows how many records are lost, is a ValueError.
"""

import csv
import gzip
import json
import zlib
from pathlib import Path

from keras_attn.training.data.problem_log import RecordError

CHUNK = 1024
UNCLOSED = "unexpected end of data"  # the words of the csv module


def format_of(path: Path) -> str:
    """The format that a file's name says: a key of `FORMATS`, "txt" where it says none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return _SUFFIXES.get(suffixes[-1] if suffixes else "", "txt")


def numbered_lines(path):
    """Numbers from 1 and lines without their ends. Bytes that are no UTF-8 become surrogates."""
    number = 0
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    # A line ends at a line feed only: text may hold the other characters that Python splits at.
    with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, line.removesuffix("\n").removesuffix("\r")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _damaged(path, f"line {number}", error) from error


def read_txt(path, columns):
    """Plain text, one a line."""
    if columns is not None:
        raise ValueError(f"`columns` must be None for plain text. Received: columns={columns}, file {path}")
    for number, line in numbered_lines(path):
        yield number, (line,)


def read_tsv(path, columns):
    """Values between tabs, which are never quoted."""
    rows = ((number, line.split("\t")) for number, line in numbered_lines(path))
    return _table(path, rows, columns)


def read_csv(path, columns):
    """Values between commas, quoted where they hold commas, quotes or line feeds."""
    return _table(path, _csv_rows(path), columns)


def read_jsonl(path, columns):
    """A JSON object a line. `a.b` is the field `b` of the field `a`, unless there is one of that name."""
    _need_names(path, columns)
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise RecordError(f"expected a JSON object, got {type(record).__name__}")
            yield number, tuple(_text(name, _field(record, name)) for name in columns)
        except RecordError as problem:
            yield number, problem
        except (ValueError, RecursionError) as error:
            yield number, RecordError(f"no JSON: {error}")


def read_tfrecord(path, columns):
    """`tf.train.Example`s whose features, of one string or integer each, are the columns."""
    import tensorflow as tf

    _need_names(path, columns)
    compression = "GZIP" if path.suffix.lower() == ".gz" else ""
    number = 0
    try:
        for batch in tf.data.TFRecordDataset(str(path), compression).batch(CHUNK):
            for record in _examples(batch, columns):
                number += 1
                yield number, record
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
        raise _damaged(path, f"record {number}", error.message) from error


def _csv_rows(path):
    reader = csv.reader((line + "\n" for _, line in numbered_lines(path)), strict=True)
    while True:
        first = reader.line_num + 1
        try:
            yield first, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if UNCLOSED in str(error):
                raise _damaged(path, f"line {first - 1}", "a quote is never closed") from error
            yield first, RecordError(f"no CSV: {error}")


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
    return [known.index(column) for column in columns]


def _need_names(path, columns):
    if not columns or not all(isinstance(name, str) for name in columns):
        raise ValueError(f"`columns` must name the fields to read from {path}. Received: columns={columns}")


def _field(record, name):
    if name in record:
        return record[name]
    head, dot, rest = name.partition(".")
    if dot and isinstance(record.get(head), dict):
        return _field(record[head], rest)
    raise RecordError(f"no field {name!r}")


def _text(name, value):
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RecordError(f"field {name!r} must be a string or an integer, got {type(value).__name__}")


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


def _damaged(path, place, error):
    return ValueError(f"`files` must be whole. Received: {path}, damaged behind {place}: {error}")


FORMATS = {"txt": read_txt, "csv": read_csv, "tsv": read_tsv, "jsonl": read_jsonl, "tfrecord": read_tfrecord}
_SUFFIXES = {f".{name}": name for name in FORMATS} | {".json": "jsonl", ".ndjson": "jsonl", ".tfrecords": "tfrecord"}
