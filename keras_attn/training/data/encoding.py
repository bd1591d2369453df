"""Tokenisation of records."""

import itertools
import math
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np

from keras_attn.argument_checks import check_positive
from keras_attn.training.data.callable_tokenizer import CallableTokenizer
from keras_attn.training.data.problem_log import ProblemLog, RecordError
from keras_attn.training.data.ragged_ids import RaggedIds
from keras_attn.training.data.records import as_records

CHUNK = 16_384
TOO_LONG = ("truncate", "drop")


class Side(NamedTuple):
    """How a text of a record is converted to a row of ids.

    Attributes:
        tokenizer: A tokenizer with `tokenize` and `pad_id`.
        prefix, suffix: Ids before and after the text.
        shifted: Whether inputs omit the last id of the row, and labels the first.
    """

    tokenizer: object
    prefix: tuple = ()
    suffix: tuple = ()
    shifted: bool = False

    def rows(self, texts):
        """Converts texts to rows of ids. A text without tokens gives an empty row."""
        rows = self.tokenizer.tokenize(texts)
        if len(rows) != len(texts) or not all(isinstance(i, Integral) for row in rows for i in row[:1]):
            raise ValueError(f"The tokenizer must return a row of ids for each text. Received: {rows[:3]!r}")
        self._check_bare([row for row in rows if len(row)])
        return [[*self.prefix, *row, *self.suffix] if len(row) else [] for row in rows]

    def _check_bare(self, rows):
        """Raises a ValueError if the tokenizer has already added the special ids."""
        starts = self.prefix and all(tuple(row[: len(self.prefix)]) == self.prefix for row in rows)
        ends = self.suffix and all(tuple(row[-len(self.suffix) :]) == self.suffix for row in rows)
        if rows and (starts or ends):
            name, ids = ("start", self.prefix) if starts else ("end", self.suffix)
            raise ValueError(
                f"The tokenizer must not add the {name} ids, {ids}, which the data set adds. Received: {rows[:3]!r}"
            )

    def limit(self, max_length):
        """The maximum number of columns: the lower of `max_length` and that of the tokenizer."""
        limits = max_length, getattr(self.tokenizer, "max_length", None)
        return min((limit for limit in limits if limit is not None), default=math.inf)

    def width(self, row):
        """The number of columns of a row."""
        return len(row) - self.shifted

    def truncated(self, row, max_length):
        """Truncates a row. Unshifted rows keep their suffix; shifted rows do not get an end id."""
        if self.width(row) <= max_length:
            return row
        if self.shifted:
            return row[: max_length + 1]
        return [*row[: max_length - len(self.suffix)], *self.suffix]


class Encoded(NamedTuple):
    """Tokenised records.

    Attributes:
        columns: A `RaggedIds` for each side.
        kept: The `kept` value of `parse` for each record.
        log: The `ProblemLog`.
        truncated, dropped: Numbers of records that were too long.
    """

    columns: Sequence[RaggedIds]
    kept: list
    log: ProblemLog
    truncated: int
    dropped: int


def encode(records, sides, parse=None, max_length=None, too_long="truncate"):
    """Tokenises records in chunks.

    Args:
        records: `Records`, or an iterable of texts or of tuples of texts.
        sides: A `Side` for each text.
        parse: Function of the fields of a record that returns `(texts, kept)` or raises a `RecordError`.
        max_length: Maximum number of columns per row. If None, only the limit of the tokenizer applies.
        too_long: "truncate" or "drop".

    Returns:
        An `Encoded`.
    """
    if too_long not in TOO_LONG:
        raise ValueError(f"`too_long` must be one of {TOO_LONG}. Received: too_long={too_long!r}")
    if max_length is not None:
        check_positive(max_length=max_length)
        specials = max(0 if side.shifted else len(side.prefix) + len(side.suffix) for side in sides)
        if max_length <= specials:
            raise ValueError(f"`max_length` must exceed the {specials} special ids. Received: max_length={max_length}")
    limits = [side.limit(max_length) for side in sides]
    records = as_records(records)
    log = ProblemLog(records.on_error)
    columns, kept, truncated, dropped = [_Column() for _ in sides], [], 0, 0
    parsed = _parsed(records, log, parse or _texts_only(len(sides)))
    while chunk := list(itertools.islice(parsed, CHUNK)):
        places, texts, kept_values = zip(*chunk, strict=True)
        rows_of_sides = [side.rows(column) for side, column in zip(sides, zip(*texts, strict=True), strict=True)]
        for place, extra, *rows in zip(places, kept_values, *rows_of_sides, strict=True):
            widths = [side.width(row) for side, row in zip(sides, rows, strict=True)]
            if min(widths) < 1:
                log.reject(place, "a text has too few tokens")
                continue
            if any(width > limit for width, limit in zip(widths, limits, strict=True)):
                if too_long == "drop":
                    dropped += 1
                    continue
                truncated += 1
                rows = [side.truncated(row, limit) for side, row, limit in zip(sides, rows, limits, strict=True)]
            kept.append(extra)
            for column, row in zip(columns, rows, strict=True):
                column.rows.append(row)
        for column in columns:
            column.flatten()
    log.warn()
    if not kept:
        raise ValueError(
            f"`records` must contain an example. Received: {log.read:,} records, {log.malformed:,} malformed and "
            f"{dropped:,} too long"
        )
    return Encoded([column.ids() for column in columns], kept, log, truncated, dropped)


def as_tokenizer(tokenizer):
    """Wraps a function as a `CallableTokenizer`; tokenizers are returned as they are."""
    if hasattr(tokenizer, "tokenize") and hasattr(tokenizer, "pad_id"):
        return tokenizer
    return CallableTokenizer(tokenizer)


def read_side(tokenizer):
    """The side of input texts: with the special ids of the tokenizer's `encode`."""
    return Side(tokenizer, tuple(tokenizer.prefix), tuple(tokenizer.suffix))


def target_side(tokenizer):
    """The side of generated texts: from start id to end id, shifted."""
    if tokenizer.start_id is None or tokenizer.end_id is None:
        raise ValueError(
            "The tokenizer of targets must have a `start_id` and an `end_id`; wrap a function in a `CallableTokenizer` "
            f"with them. Received: start_id={tokenizer.start_id}, end_id={tokenizer.end_id}"
        )
    return Side(tokenizer, (tokenizer.start_id,), (tokenizer.end_id,), shifted=True)


def continued_side(tokenizer):
    """The side of texts for a language model: with the prefix of `encode` and the end id, if any, shifted."""
    return joined_side(tokenizer)._replace(prefix=tuple(tokenizer.prefix), shifted=True)


def joined_side(tokenizer):
    """The side of concatenated texts: each followed by the end id, if any."""
    return Side(tokenizer, suffix=() if tokenizer.end_id is None else (tokenizer.end_id,))


class _Column:
    """Collects rows of ids in a flat array."""

    def __init__(self):
        self.rows, self._flat, self._lengths = [], [], []

    def flatten(self):
        lengths = np.fromiter(map(len, self.rows), np.int64, len(self.rows))
        ids = itertools.chain.from_iterable(self.rows)
        self._flat.append(np.fromiter(ids, np.int32, int(lengths.sum())))
        self._lengths.append(lengths)
        self.rows = []

    def ids(self):
        return RaggedIds(np.concatenate(self._flat), np.concatenate(self._lengths))


def _parsed(records, log, parse):
    for place, fields in records.located(log):
        try:
            yield place, *parse(fields)
        except RecordError as problem:
            log.reject(place, problem)


def _texts_only(count):
    def parse(fields):
        if len(fields) != count:
            raise RecordError(f"expected {count} texts, got {len(fields)}; select them with `columns`")
        return fields, None

    return parse
