"""Global batches, and their split over workers and replicas."""

import itertools
import zlib

import keras
import numpy as np

from keras_attn.training.losses.entries import only


class Source:
    """An iterator over one worker's rows of the global batches, from batch `start` on.

    Args:
        name: The argument name of the data set, for error messages.
        dataset: An object with `batches(start, shard, num_shards)`, such as a data set of this package, or a
            `tf.data.Dataset` of global batches that yields the same batches in every iteration.
        start: Number of global batches to skip.
        shard, num_shards: Index of the worker and number of workers.
        endless: Whether to repeat a `tf.data.Dataset`.

    A batch is `(inputs, labels, weights, present)`. `weights` may be None. `present` is None or float32 `(B,)`, 0 at
    rows that `with_even_rows` added.

    Attributes:
        rows: Number of rows in the global batches read so far.
        first: Number of rows and checksum of the first global batch. The checksum is None if a worker reads only a part
            of it.
    """

    def __init__(self, name, dataset, start, shard, num_shards, endless=True):
        self._name, self._shard, self._num_shards = name, shard, num_shards
        self._is_split = _has_shards(dataset)
        if self._is_split:
            self._batches = iter(dataset.batches(start, shard, num_shards))
        else:
            dataset = untuned(dataset.repeat() if endless else dataset).skip(start)
            self._batches = dataset.as_numpy_iterator()
        self.rows, self.first = 0, None

    def __iter__(self):
        return self

    def __next__(self):
        batch = _unpacked(self._name, next(self._batches))
        whole = self._num_shards == 1 or not self._is_split
        self.rows += len(_first(batch)) * (1 if whole else self._num_shards)
        if self.first is None:
            self.first = self.rows, checksum(*keras.tree.flatten(batch)) if whole else None
        if self._is_split or self._num_shards == 1:
            return batch
        return rows(with_even_rows(batch, self._num_shards), self._shard, self._num_shards)


def finite(name, dataset, shard, num_shards):
    """A `Source` of a single epoch, also for an endless data set."""
    batches = Source(name, dataset, 0, shard, num_shards, endless=False)
    return itertools.islice(batches, len(dataset)) if getattr(dataset, "epochs", 1) is None else batches


def check_source(name, dataset, endless=True):
    """Raises a ValueError if the argument `name` is not valid for `Source`, or is endless but must not be."""
    if _has_shards(dataset):
        return
    if not hasattr(dataset, "element_spec"):
        raise ValueError(
            f"`{name}` must be a tf.data.Dataset of global batches, or have a method "
            f"`batches(start, shard, num_shards)`. Received: a {type(dataset).__name__}"
        )
    import tensorflow as tf

    if not endless and dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"`{name}` must be a finite tf.data.Dataset. Received: an infinite one")


def fingerprint(dataset):
    """The fingerprint of a data set, a string or None."""
    # A tf.data.Dataset has an unrelated method of this name.
    known = getattr(dataset, "fingerprint", None)
    return known if isinstance(known, str) else None


def batch_settings(dataset):
    """The settings that the batches of a data set depend on, as a dict."""
    if _has_shards(dataset):
        return getattr(dataset, "batch_settings", dict)()
    return {"element_spec": str(dataset.element_spec), "cardinality": int(dataset.cardinality())}


def first_batch(dataset):
    """Number of rows and checksum of the first global batch of a training run."""
    source = Source("dataset", dataset, 0, 0, 1)
    next(source, None)
    return source.first or (0, None)


def batches_before(dataset, records):
    """The number of global batches that contain the first `records` rows, or None if no batch ends there."""
    source, count = Source("dataset", dataset, 0, 0, 1), 0
    while source.rows < records and next(source, None) is not None:
        count += 1
    return count if source.rows == records else None


def checksum(*parts):
    """A checksum of numbers, strings and arrays, as a short string."""
    value = 0
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype == object:
            part = part.tolist()
        content = np.ascontiguousarray(part) if isinstance(part, np.ndarray) else repr(part).encode()
        value = zlib.crc32(content, value)
    return f"{value:08x}"


def with_even_rows(batch, count):
    """Appends rows of weight 0 that are not `present`, such that the number of rows is a multiple of `count`."""
    inputs, labels, weights, present = batch
    size = len(_first(batch))
    lacking = -size % count
    if not lacking:
        return batch

    def filled(x):
        return np.concatenate([x, np.repeat(x[-1:], lacking, axis=0)])

    def zeros(x):
        return np.concatenate([x, np.zeros((lacking, *x.shape[1:]), x.dtype)])

    inputs, labels = keras.tree.map_structure(filled, (inputs, labels))
    weights = None if weights is None else zeros(weights)
    return inputs, labels, weights, zeros(np.ones(size, "float32") if present is None else present)


def rows(batch, index, count):
    """Part `index` of `count` equal parts of a batch."""

    def part(x):
        size = len(x) // count
        return x[index * size : (index + 1) * size]

    return keras.tree.map_structure(lambda x: None if x is None else part(x), batch)


def spread(batch, strategy, worker):
    """Distributes the batch of worker number `worker` over its replicas."""
    if strategy.num_replicas_in_sync == 1:
        return batch
    local = len(strategy.extended.worker_devices)
    batch = with_even_rows(batch, local)
    parts = [rows(batch, index, local) for index in range(local)]
    flat = [keras.tree.flatten(part) for part in parts]
    first = worker * local

    def distributed(position):
        values = [part[position] for part in flat]
        if values[0] is None:
            return None
        return strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group - first]
        )

    return keras.tree.pack_sequence_as(parts[0], [distributed(i) for i in range(len(flat[0]))])


def untuned(dataset):
    """Turns off the autotuner of a `tf.data.Dataset`, unless it was set explicitly.

    The autotuner sleeps twice as long each time and the end of an iterator waits for it, which can double the total
    time.
    """
    import tensorflow as tf

    if dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _has_shards(dataset):
    return hasattr(dataset, "batches")


def _unpacked(name, batch):
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    if labels is None:
        raise ValueError(
            f"`{name}` must yield (inputs, labels) or (inputs, labels, sample_weight). Received: only inputs"
        )
    return inputs, only(labels), None if weights is None else only(weights), None


def _first(batch):
    return next(x for x in keras.tree.flatten(batch) if x is not None)


def shard_of(strategy):
    """The index of this worker and the number of workers."""
    if strategy.num_replicas_in_sync == 1:
        return 0, 1
    local, replicas = len(strategy.extended.worker_devices), []
    strategy.experimental_distribute_values_from_function(
        lambda context: replicas.append(context.replica_id_in_sync_group) or 0
    )
    return min(replicas) // local, strategy.num_replicas_in_sync // local
