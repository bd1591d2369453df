"""Batches of examples of similar lengths, in a few shapes."""

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
    """Base class of text data sets: batches of examples of similar lengths, in a few shapes.

    Shapes are chosen from the lengths of all examples to minimise padding. Each epoch contains every example once; the
    last batch of a shape is filled with rows of padding. The order of epoch `e` depends only on `seed` and `e`.

    Args:
        records: `Records`, a table such as a DataFrame or a dict of columns (see `Records`), or an iterable of texts,
            of tuples of texts, or of dicts.
        sides: A `Side` for each text of a record.
        parse: Optional function of the fields of a record, see `encode`.
        columns: Columns of a table, or fields of dicts, that form a record, in order. If None, those with the usual
            names, or all columns if a record has as many values.
        batch_size: Number of rows per batch. Give either this or `tokens_per_batch`.
        tokens_per_batch: Maximum number of rows times columns of the longest side of a batch, padding included.
        row_multiple: With `tokens_per_batch`, the number of rows is a multiple of this, so that it can be split over
            replicas.
        num_shapes: Maximum number of batch shapes. XLA compiles each of them.
        max_length: Maximum number of ids per text, special ids included. The `max_length` of the tokenizer applies too.
        too_long: "truncate" longer texts, or "drop" their examples. Both are counted.
        shuffle: Whether to shuffle each epoch.
        seed: Integer random seed of the order.
        epochs: Number of epochs. None for no end.

    Attributes:
        tokenizers: Tuple of the tokenizers of the texts. The last one is that of the generated text.
        summary: The `DataSummary`.

    Raises:
        ValueError: If an argument or a record is invalid. The message names it.
    """

    # Usual names of the columns, used if `columns` is None.
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
                f"`tokens_per_batch` must be at least {row_multiple * widest}, {row_multiple} rows of the longest "
                f"example; `max_length` shortens it. Received: tokens_per_batch={tokens_per_batch}"
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
        """The examples of each batch, a matrix `(batches, rows)` per shape, -1 for padding, and the order."""
        rng = np.random.default_rng((self.seed, epoch))
        batches_of_shapes = []
        for shape in self._shapes:
            # Fill row by row, so that the batches of a shape have about the same number of examples.
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
        """Builds a batch of the examples `rows`, integer `(B,)`, -1 for padding, with the given widths of the sides."""
        raise NotImplementedError

    def _inputs(self, side, rows, width):
        """Input ids of a side, int32 `(B, width)`."""
        spec = self._sides[side]
        return self._columns[side].padded(rows, width, spec.tokenizer.pad_id, end=int(spec.shifted))

    def _labels(self, side, rows, width, ignore_id):
        """Labels of a side, int32 `(B, width)`."""
        return self._columns[side].padded(rows, width, ignore_id, begin=int(self._sides[side].shifted))


def label_padding(ignore_id, tokenizer):
    """The padding label for targets of a tokenizer; see `padding_label`."""
    return padding_label(tokenizer.pad_id, () if tokenizer.end_id is None else (tokenizer.end_id,), ignore_id)
