"""The base class of data sets."""

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
    """Numbered batches, which can be resumed from any number and split over any number of workers.

    Batch `i`, counted over all epochs, depends only on the data set and `i`, so a resumed training run gets exactly the
    same batches. Shard `s` of `n` is the `s`-th of `n` equal slices of the rows of each batch.

    A subclass implements `__len__`, the number of batches per epoch, `batch`, and optionally `plan`, for example to
    draw the order of an epoch.

    Attributes:
        epochs: Number of epochs. None for no end.
        row_divisor: A divisor of the number of rows of every batch. The number of shards must divide it.
        ignore_id: Optional padding label, or None if every label counts. It is passed to the trainer's losses and
            metrics.
        tokenizers: Tuple of the tokenizers of its texts. The last one is that of the generated text.

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
    # Those of `map`, in the order of their calls.
    functions = ()
    # Whether rows are padded with the padding id of their tokenizer.
    holds_padding = True

    def __len__(self) -> int:
        raise NotImplementedError

    def plan(self, epoch: int) -> Any:
        """Prepares an epoch; the result is passed to `batch`. By default, the number of the epoch."""
        return epoch

    def batch(self, plan: Any, index: int) -> Nest:
        """Returns batch `index` of the epoch of `plan`.

        Returns:
            `(inputs, labels)` or `(inputs, labels, sample_weight)`: NumPy arrays, or nests of them.
        """
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """A string that identifies the data: by default, a checksum of the first batch and the length."""
        arrays = keras.tree.flatten(self.batch(self.plan(0), 0))
        return checksum(len(self), *arrays)

    def batch_settings(self) -> dict[str, Any]:
        """Dict of settings that the batches depend on, besides the records, to report differences when resuming."""
        return {"batches_per_epoch": len(self), "batch_size": len(keras.tree.flatten(self.batch(self.plan(0), 0))[0])}

    def batches(self, start: int = 0, shard: int = 0, num_shards: int = 1) -> Iterator[Nest]:
        """Iterates over batches from number `start` on. A thread prepares them in advance.

        Args:
            start: Number of the first batch, counted over all epochs.
            shard, num_shards: Index of the slice of each batch's rows to return, and number of slices.

        Returns:
            An iterator with a method `close`.

        Raises:
            ValueError: If `start` is after the last epoch, or the rows cannot be split equally.
        """
        check_count(start=start, shard=shard)
        check_positive(num_shards=num_shards, batches_of_an_epoch=len(self))
        if shard >= num_shards:
            raise ValueError(f"`shard` must be below `num_shards`, {num_shards}. Received: shard={shard}")
        if self.row_divisor % num_shards:
            raise ValueError(
                f"`num_shards` must divide {self.row_divisor}, because numbers of rows are multiples of it. "
                f"Received: num_shards={num_shards}"
            )
        if self.epochs is not None and start > self.epochs * len(self):
            raise ValueError(
                f"`start` must be at most {self.epochs * len(self)}, the number of batches in {self.epochs} epochs. "
                f"Received: start={start}"
            )
        return Prefetched(self._batches(start, shard, num_shards))

    def as_tf_dataset(self, start: int = 0) -> tf.data.Dataset[Any]:
        """Converts the batches to a `tf.data.Dataset`, without static shapes.

        The result provides the padding label to a `Trainer` and to `fit` of this package's models, as this data set
        does; transformations of it by tf.data do not. Each iteration begins at `start`. For several epochs of `fit`,
        use an endless data set with `steps_per_epoch=len(dataset)`, so that it is iterated once.

        Args:
            start: Number of the first batch, counted over all epochs.
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
        """Returns a data set whose batch `i` is `function(batch, i)`.

        Args:
            function: Function of a whole batch and its number, counted over all epochs, which can serve as a random
                seed. Its first result is part of the `fingerprint`.
        """
        return _Mapped(self, function)

    def _with_ids(self, other):
        """Copies what the batches were made with to `other`."""
        other.tokenizers, other.holds_padding = self.tokenizers, self.holds_padding
        other.functions = self.functions
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
        self.functions = (*dataset.functions, function)

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def fingerprint(self):
        plan = self.plan(0)
        once, again = (keras.tree.flatten(self.batch(plan, 0)) for _ in range(2))
        if checksum(*once) != checksum(*again):
            # An unseeded random function gives different batches in every process.
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
