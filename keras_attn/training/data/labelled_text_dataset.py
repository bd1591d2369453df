"""Data sets for text classification."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_attn.labels import Labels
from keras_attn.training.data.bucketed_dataset import BucketedDataset
from keras_attn.training.data.dataset import checksum
from keras_attn.training.data.encoding import as_tokenizer, read_side
from keras_attn.training.data.problem_log import RecordError
from keras_attn.training.data.records import as_records
from keras_attn.typing import Array, Nest

if TYPE_CHECKING:
    from keras_attn.text.tokenizer import Tokenizer
    from keras_attn.training.data.callable_tokenizer import CallableTokenizer


class LabelledTextDataset(BucketedDataset):
    """Batches of texts and classes for classifiers such as `EncoderModel`.

    A batch is `({"token_ids": (B, T)}, labels (B,), sample_weight (B,))`, int32 and float32. Rows of padding have
    weight 0, which applies to the `weighted_metrics` of a `Trainer` or of `compile`, but not to `metrics`.

    Integer labels are class numbers, and booleans are 0 and 1. Names are numbered in the order of `labels`. Pass the
    `labels` of the training split to the other splits, which may lack classes and would number them differently, and to
    the model, so that `Trainer` and `export` can compare them.

    Args:
        records: `Records` whose last value is a label, an iterable of such tuples, or a table with two columns or with
            columns `text` and `label`. Several texts before the label are joined by spaces.
        tokenizer: A tokenizer of `keras_attn.text`, a `CallableTokenizer` or its function.
        labels: Names of the classes, in order. Records with other labels are malformed. If no name is an integer,
            integer labels are class numbers. Names that are all different from those of a `datasets.ClassLabel` rename
            its classes. If None, the names stored in the table (`datasets.ClassLabel`, pandas categorical), else the
            integers from 0 to the largest label, else the labels found, sorted.
        **options: More arguments of `BucketedDataset`: `columns`, `batch_size` or `tokens_per_batch`, `max_length`,
            `num_shapes`, `shuffle`, `seed`, `epochs`, ...

    Attributes:
        labels: List of str, the label of each class.

    Raises:
        ValueError: If an argument or a record is invalid. The message names it.

    Warns:
        UserWarning: If `labels` is None, the classes have names, and the data set is not shuffled, as is usual for
            evaluation.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.training import LabelledTextDataset
    >>> records = [("aab", "yes"), ("b", "no"), ("abb", "yes")]
    >>> data = LabelledTextDataset(records, CharacterTokenizer("ab"), ["no", "yes"], batch_size=4, shuffle=False)
    >>> inputs, labels, weights = next(data.batches())
    >>> data.labels, labels, weights
    (['no', 'yes'], array([1, 0, 1, 0], dtype=int32), array([1., 1., 1., 0.], dtype=float32))
    """

    usual_columns = ("text", "label")
    # Every label is a class.
    ignore_id = None

    def __init__(
        self,
        records: Any,
        tokenizer: Tokenizer | CallableTokenizer | Callable[[Sequence[str]], Any],
        labels: Sequence[str] | None = None,
        *,
        columns: Sequence[int | str] | None = None,
        **options: Any,
    ) -> None:
        records = as_records(records, columns, self.usual_columns)
        stored = records.stored_label_names() if labels is not None else None
        labels = records.label_names() if labels is None else labels
        known = None if labels is None else Labels(labels)
        renamed = {}
        if stored is not None and set(stored).isdisjoint(known.names):
            # The column stores class numbers, so the names can be replaced.
            if len(stored) != len(known.names):
                raise ValueError(
                    f"`labels` must be as many as the classes {Labels(stored)} of the data. Received: {known}"
                )
            renamed = dict(zip(stored, known.names, strict=True))

        def parse(fields):
            *texts, label = fields
            if not texts:
                raise RecordError("expected a text and a label, got one value")
            if known is not None:
                label = renamed.get(label, label)
                try:
                    known.number(label)
                except ValueError as error:
                    raise RecordError(str(error)) from None
            return (" ".join(texts),), label

        super().__init__(records, (read_side(as_tokenizer(tokenizer)),), parse, **options)
        found = Labels.found(self._kept) if known is None else known
        self.labels = found.names
        self._classes = np.array([found.number(label) for label in self._kept], np.int32)
        if known is None and not self.shuffle and not found.are_the_same_everywhere:
            warnings.warn(
                f"Classes are numbered in the order of the labels found here: {found}. If the model is trained on "
                "other data, pass its `labels`: the numbers differ if a class is missing here.",
                stacklevel=2,
            )

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}-{checksum(self.labels, self._classes)}"

    def arrays(self, rows: Array, widths: Sequence[int]) -> Nest:
        (width,) = widths
        real = rows >= 0
        labels = np.where(real, self._classes[rows], np.int32(0))
        return {"token_ids": self._inputs(0, rows, width)}, labels, real.astype(np.float32)
