"""What a training run takes its batches from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from keras_attn.typing import Nest

if TYPE_CHECKING:
    import tensorflow as tf


class ShardedBatches(Protocol):
    """An object that counts its batches, as the data sets of this package do."""

    def batches(self, start: int, shard: int, num_shards: int, /) -> Iterator[Nest]:
        """Batches from the `start`-th on, of each of which the `shard`-th of `num_shards` equal parts of the rows."""


Batches: TypeAlias = "ShardedBatches | tf.data.Dataset[Any]"
