"""Texts and their classes."""

import numpy as np

from keras_attn.training.data.bucketed_dataset import BucketedDataset
from keras_attn.training.data.dataset import checksum
from keras_attn.training.data.encoding import as_tokenizer, read_side
from keras_attn.training.data.problem_log import RecordError


class LabelledTextDataset(BucketedDataset):
    """Batches of texts and classes for classifiers such as `EncoderModel`.

    A batch is `({"token_ids": (B, T)}, labels (B,), sample_weight (B,))`, int32 and float32. The weight of a row of
    padding is 0.

    Args:
        records: `Records` whose last value is a label, or an iterable of such tuples. Several texts before it are one,
            joined by spaces.
        tokenizer: a tokenizer of `keras_attn.text`, or a `CallableTokenizer`, or its function.
        labels: the labels in the order of the classes; a record with another is malformed. Where None, those found,
            sorted.
        **options: see `BucketedDataset`: `batch_size` or `tokens_per_batch`, `max_length`, `num_shapes`, `shuffle`,
            `seed`, `epochs`, ...

    Attributes:
        labels: list of str, the label of each class.

    Raises:
        ValueError: an argument or a record does not fit; the message names it.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.training import LabelledTextDataset
    >>> records = [("aab", "yes"), ("b", "no"), ("abb", "yes")]
    >>> data = LabelledTextDataset(records, CharacterTokenizer("ab"), batch_size=4, shuffle=False)
    >>> inputs, labels, weights = next(data.batches())
    >>> data.labels, labels, weights
    (['no', 'yes'], array([1, 0, 1, 0], dtype=int32), array([1., 1., 1., 0.], dtype=float32))
    """

    # Every label is a class.
    ignore_id = None

    def __init__(self, records, tokenizer, labels=None, **options):
        given = None if labels is None else [str(label) for label in labels]
        if given is not None and (not given or len(set(given)) < len(given)):
            raise ValueError(f"`labels` must hold each label once. Received: labels={labels}")
        known = None if given is None else frozenset(given)

        def parse(fields):
            *texts, label = fields
            if not texts:
                raise RecordError("expected a text and a label, got one value")
            if known is not None and label not in known:
                raise RecordError(f"label {label!r} is none of {given}")
            return (" ".join(texts),), label

        super().__init__(records, (read_side(as_tokenizer(tokenizer)),), parse, **options)
        self.labels = sorted(set(self._kept)) if given is None else given
        classes = {label: number for number, label in enumerate(self.labels)}
        self._classes = np.array([classes[label] for label in self._kept], np.int32)

    @property
    def fingerprint(self):
        return f"{super().fingerprint}-{checksum(self.labels, self._classes)}"

    def arrays(self, rows, widths):
        (width,) = widths
        real = rows >= 0
        labels = np.where(real, self._classes[rows], np.int32(0))
        return {"token_ids": self._inputs(0, rows, width)}, labels, real.astype(np.float32)
