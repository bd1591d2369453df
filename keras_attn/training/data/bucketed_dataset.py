"""Examples of like lengths in batches of few shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_attn.argument_checks import check_count, check_positive
from keras_attn.special_ids import padding_label
from keras_attn.training.data.batch_shapes import BatchSizes, batch_shapes
from keras_attn.training.data.data_summary import DataSummary
from keras_attn.training.data.dataset import Dataset, checksum
from keras_attn.training.data.encoding import encode
from keras_attn.training.data.records import as_records
from keras_attn.typing import Array, Nest


class BucketedDataset(Dataset):
    """What data sets of text have in common: examples of like lengths in batches of few shapes.

    Shapes follow from the lengths of all examples, such that the batches hold little padding. Every example is in
    every epoch once; rows of padding fill the last batch of a shape. The order of epoch `e` follows from `seed` and
    `e`.

    Args:
        records: `Records`; a table as `Records` takes it, such as a DataFrame or a dict of columns; or an iterable of
            texts, of tuples of them, or of dicts.
        sides: a `Side` for each text of a record.
        parse: optional function of the fields of a record, see `encode`.
        columns: which columns of a table, or fields of dicts, make a record, in this order. Where None, those of the
            usual names, or all if there are as many as a record has values.
        batch_size: rows of every batch; or
        tokens_per_batch: what the rows of a batch times its longest side hold at most, padding included.
        row_multiple: with `tokens_per_batch`, what the rows of a batch are a multiple of, so that replicas can share
            them.
        num_shapes: the most shapes that batches have; each is compiled once under XLA.
        max_length: the most ids of a text, special ones included; at most that of its tokenizer in any case.
        too_long: what becomes of longer texts: "truncate", or "drop" the example. Both are counted.
        shuffle: whether the order is drawn anew for each epoch.
        seed: int of the order.
        epochs: how many epochs there are; None for endless ones.

    Attributes:
        tokenizers: tuple of the tokenizers of the texts; that of what a model generates is the last.
        summary: `DataSummary`.

    Raises:
        ValueError: an argument or a record does not fit; the message names it.
    """

    # What the columns of a table are called where `columns` is None.
    usual_columns = None

    def __init__(
        self,
        records: Any,
        sides: Sequence[Any],
        parse: Callable[..., Any] | None = None,
        *,
        columns: Sequence[int | str] | None = None,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        row_multiple: int = 8,
        num_shapes: int = 8,
        max_length: int | None = None,
        too_long: str = "truncate",
        shuffle: bool = True,
        seed: int = 0,
        epochs: int | None = None,
    ) -> None:
        if (batch_size is None) == (tokens_per_batch is None):
            raise ValueError(
                "One of `batch_size` and `tokens_per_batch` must be given. "
                f"Received: batch_size={batch_size}, tokens_per_batch={tokens_per_batch}"
            )
        sizes = BatchSizes(batch_size, tokens_per_batch, row_multiple)
        given = {name: value for name, value in sizes._asdict().items() if value is not None}
        check_positive(**given, num_shapes=num_shapes, epochs=1 if epochs is None else epochs)
        check_count(seed=seed)
        self.tokenizers = tuple(side.tokenizer for side in sides)
        records = as_records(records, columns, self.usual_columns)
        encoded = encode(records, sides, parse, max_length, too_long)
        self._sides, self._columns, self._kept = sides, encoded.columns, encoded.kept
        shifts = [side.shifted for side in sides]
        widths = np.stack([ids.lengths - shift for ids, shift in zip(encoded.columns, shifts, strict=True)], axis=1)
        widest = int(widths.max())
        if not sizes.most(np.array(widest)):
            raise ValueError(
                f"`tokens_per_batch` must hold {row_multiple} rows of the longest example, {row_multiple * widest}; "
                f"`max_length` makes it shorter. Received: tokens_per_batch={tokens_per_batch}"
            )
        self.shuffle, self.seed, self.epochs = shuffle, seed, epochs
        self._settings = sizes._asdict() | {"num_shapes": num_shapes, "max_length": max_length, "too_long": too_long}
        self._shapes = batch_shapes(widths, sizes, num_shapes)
        self._ends = list(itertools.accumulate(shape.batches for shape in self._shapes))
        self.row_divisor = math.gcd(*(shape.rows for shape in self._shapes))
        tokens = int(widths.sum())
        self.summary = DataSummary(
            records=encoded.log.read,
            malformed=encoded.log.malformed,
            problems=tuple(encoded.log.problems),
            truncated=encoded.truncated,
            dropped=encoded.dropped,
            examples=len(widths),
            tokens=tokens,
            batches=len(self),
            shapes=tuple((shape.rows, shape.widths) for shape in self._shapes),
            padding_share=1 - tokens / sum(s.rows * s.batches * sum(s.widths) for s in self._shapes),
        )

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def fingerprint(self) -> str:
        return checksum(self.shuffle, self.seed, self.summary.shapes, *(ids.flat for ids in self._columns))

    def batch_settings(self) -> dict[str, Any]:
        given = {"shuffle": self.shuffle, "seed": self.seed, "examples": self.summary.examples}
        return self._settings | given

    def plan(self, epoch: int) -> Any:
        """The examples of each batch, -1 for a row of padding: a matrix `(batches, rows)` a shape, and the order."""
        rng = np.random.default_rng((self.seed, epoch))
        batches_of_shapes = []
        for shape in self._shapes:
            # Row by row, so that the batches of a shape have equally many examples.
            places = np.full((shape.rows, shape.batches), -1, np.int32)
            places.ravel()[: len(shape.members)] = rng.permutation(shape.members) if self.shuffle else shape.members
            batches_of_shapes.append(places.T)
        return batches_of_shapes, rng.permutation(len(self)) if self.shuffle else np.arange(len(self))

    def batch(self, plan: Any, index: int) -> Nest:
        batches_of_shapes, order = plan
        number = int(order[index])
        which = next(i for i, end in enumerate(self._ends) if number < end)
        shape = self._shapes[which]
        return self.arrays(batches_of_shapes[which][number - self._ends[which]], shape.widths)

    def arrays(self, rows: Array, widths: Sequence[int]) -> Nest:
        """A batch of examples: int `(B,)`, -1 for a row of padding, and the columns of each side."""
        raise NotImplementedError

    def _inputs(self, side, rows, width):
        """Ids to read of a side, int32 `(B, width)`."""
        spec = self._sides[side]
        return self._columns[side].padded(rows, width, spec.tokenizer.pad_id, end=int(spec.shifted))

    def _labels(self, side, rows, width, ignore_id):
        """Ids to predict of a side, int32 `(B, width)`."""
        return self._columns[side].padded(rows, width, ignore_id, begin=int(self._sides[side].shifted))


def label_padding(ignore_id, tokenizer):
    """The label of padding after targets of a tokenizer; see `padding_label`."""
    return padding_label(tokenizer.pad_id, () if tokenizer.end_id is None else (tokenizer.end_id,), ignore_id)
