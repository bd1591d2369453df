"""Types of data sets for training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from keras_attn.typing import Nest

if TYPE_CHECKING:
    import tensorflow as tf


class ShardedBatches(Protocol):
    """An object with numbered batches, such as the data sets of this package."""

    def batches(self, start: int, shard: int, num_shards: int, /) -> Iterator[Nest]:
        """Iterates over batches from number `start` on, of each part `shard` of `num_shards` equal parts."""


Batches: TypeAlias = "ShardedBatches | tf.data.Dataset[Any]"
