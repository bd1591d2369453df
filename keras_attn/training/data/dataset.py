"""Batches whose place in the training is a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_attn.argument_checks import check_count, check_positive
from keras_attn.training.data.batch_sharding import checksum, rows, untuned
from keras_attn.training.data.prefetched import Prefetched
from keras_attn.typing import Nest

if TYPE_CHECKING:
    import tensorflow as tf


class Dataset:
    """Batches in an order that one number resumes, and that no number of workers changes.

    Batch `i` of the whole training depends on the data set and on `i` alone: a run that goes on from `i` sees bit for
    bit what it would have seen. Shard `s` of `n` holds the `s`-th of `n` equal slices of the rows of each batch.

    A subclass defines `__len__`, the batches of an epoch; `batch`; and, where an epoch has an order to draw first,
    `plan`.

    Attributes:
        epochs: how many epochs there are; None for endless ones.
        row_divisor: a divisor of the rows of every batch; the number of shards divides it.
        ignore_id: optional, the label of padding, or None where every label counts; losses and metrics of the trainer
            take it from here.
        tokenizers: tuple of the tokenizers of its texts, that of what a model generates last.

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import Dataset
    >>> class Sums(Dataset):
    ...     row_divisor = 6
    ...     def __len__(self) -> int:
    ...         return 100
    ...     def batch(self, plan, index):
    ...         x = np.random.default_rng((7, plan, index)).integers(10, size=(6, 2))
    ...         return x, x.sum(axis=1)
    >>> x, y = next(Sums().batches(start=250, shard=1, num_shards=3))
    >>> x.shape, bool((x.sum(axis=1) == y).all())
    ((2, 2), True)
    """

    epochs = None
    row_divisor = 1
    tokenizers = ()
    # Whether rows are padded with the id of their tokenizer.
    holds_padding = True

    def __len__(self) -> int:
        raise NotImplementedError

    def plan(self, epoch: int) -> Any:
        """What `batch` needs to know of an epoch: here its number."""
        return epoch

    def batch(self, plan: Any, index: int) -> Nest:
        """The `index`-th batch of the epoch of a plan.

        Returns:
            `(inputs, labels)` or `(inputs, labels, sample_weight)`: NumPy arrays, or nests of them.
        """
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """A str that tells whether a position belongs to this data: it follows from the first batch and the length."""
        arrays = keras.tree.flatten(self.batch(self.plan(0), 0))
        return checksum(len(self), *arrays)

    def batch_settings(self) -> dict[str, Any]:
        """What batches depend on besides the records, a dict by name; an error about checkpoints names what differs."""
        return {"batches_per_epoch": len(self), "batch_size": len(keras.tree.flatten(self.batch(self.plan(0), 0))[0])}

    def batches(self, start: int = 0, shard: int = 0, num_shards: int = 1) -> Iterator[Nest]:
        """Iterates over batches from the `start`-th on, which a thread prepares.

        Args:
            start: number of the first batch, counted over all epochs.
            shard, num_shards: which slice of each batch's rows to return, of how many.

        Returns:
            An iterator with a `close`.

        Raises:
            ValueError: `start` is behind the last epoch, or the rows cannot be shared out equally.
        """
        check_count(start=start, shard=shard)
        check_positive(num_shards=num_shards, batches_of_an_epoch=len(self))
        if shard >= num_shards:
            raise ValueError(f"`shard` must be below `num_shards`, {num_shards}. Received: shard={shard}")
        if self.row_divisor % num_shards:
            raise ValueError(
                f"`num_shards` must divide {self.row_divisor}, as the rows of batches are multiples of that. "
                f"Received: num_shards={num_shards}"
            )
        if self.epochs is not None and start > self.epochs * len(self):
            raise ValueError(
                f"`start` must be at most {self.epochs * len(self)}, the batches of {self.epochs} epochs. "
                f"Received: start={start}"
            )
        return Prefetched(self._batches(start, shard, num_shards))

    def as_tf_dataset(self, start: int = 0) -> tf.data.Dataset[Any]:
        """The same batches as a `tf.data.Dataset`, of arrays without static shape.

        It tells a `Trainer`, and `fit` of this package's models, the label of padding, as this data set does; what
        tf.data makes of it does not. Each iteration begins at `start`. So let a `fit` of several epochs iterate once,
        over an endless data set, by `steps_per_epoch=len(dataset)`.

        Args:
            start: number of the first batch, counted over all epochs.
        """
        import tensorflow as tf

        def spec(array):
            return tf.TensorSpec([None] * np.ndim(array), array.dtype)

        check_count(start=start)
        signature = keras.tree.map_structure(spec, self.batch(self.plan(0), 0))
        batches = tf.data.Dataset.from_generator(lambda: self._batches(start), output_signature=signature)
        endless = tf.data.experimental.INFINITE_CARDINALITY
        count = endless if self.epochs is None else max(0, self.epochs * len(self) - start)
        batches = batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)
        return self._with_ids(untuned(batches))

    def map(self, function: Callable[[Nest, int], Nest]) -> Dataset:
        """A data set whose batch `i` is `function(batch, i)`.

        Args:
            function: gets a whole batch and its number, counted over all epochs, by which it may seed what it draws.
                The first batch that it makes is part of the `fingerprint`.
        """
        return _Mapped(self, function)

    def _with_ids(self, other):
        """`other` with what this data set knows of its ids."""
        other.tokenizers, other.holds_padding = self.tokenizers, self.holds_padding
        if hasattr(self, "ignore_id"):
            other.ignore_id = self.ignore_id
        return other

    def _batches(self, start=0, shard=0, num_shards=1):
        epoch, first = divmod(start, len(self))
        while self.epochs is None or epoch < self.epochs:
            plan = self.plan(epoch)
            for index in range(first, len(self)):
                yield rows(self.batch(plan, index), shard, num_shards)
            epoch, first = epoch + 1, 0


class _Mapped(Dataset):
    def __init__(self, dataset, function):
        self._dataset, self._function = dataset, function
        self.epochs, self.row_divisor = dataset.epochs, dataset.row_divisor
        dataset._with_ids(self)
        self.labels = getattr(dataset, "labels", None)

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def fingerprint(self):
        plan = self.plan(0)
        once, again = (keras.tree.flatten(self.batch(plan, 0)) for _ in range(2))
        if checksum(*once) != checksum(*again):
            # A function that draws without a seed gives other batches in every process.
            once = [(array.dtype.str, array.shape) for array in once]
        return f"{self._dataset.fingerprint}-{checksum(*once)}"

    def batch_settings(self):
        return self._dataset.batch_settings()

    def plan(self, epoch):
        return epoch, self._dataset.plan(epoch)

    def batch(self, plan, index):
        epoch, inner = plan
        mapped = self._function(self._dataset.batch(inner, index), epoch * len(self) + index)
        return keras.tree.map_structure(np.asarray, mapped)
