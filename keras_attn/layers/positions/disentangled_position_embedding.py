"""Trained vectors of relative positions for disentangled attention."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import initializers, ops

from keras_attn.argument_checks import check_positive, check_positive_number
from keras_attn.layers.base.layer_normalization import LayerNormalization
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops.arrays import rows
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class DisentangledPositionEmbedding(PositionEncoding):
    """A trained vector for each bucket of relative positions, which `DisentangledAttention` attends with.

    Adds nothing to embeddings. To share the table among the blocks of a stack, as DeBERTa does, pass the layer as the
    `position` of the stack or model. With `num_buckets`, distances below `num_buckets / 2` have a bucket each; larger
    ones share buckets that grow logarithmically up to `max_distance`.

    Args:
        max_distance: Distance from which on all positions share the last bucket: the positions of DeBERTa.
        num_buckets: Number of buckets on each side, at most `max_distance`. Defaults to `max_distance`, a bucket for
            each distance.
        norm: Whether to normalise the vectors.
        norm_epsilon: Added to the variance.
        embeddings_initializer: Initializer of the table, `(2 * num_buckets, D)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not a positive integer, or `num_buckets` is not in `[4, max_distance]`.

    Reference:
        [He et al., 2021](https://arxiv.org/abs/2006.03654); logarithmic buckets
        [He et al., 2023](https://arxiv.org/abs/2111.09543), as in the code of DeBERTa-v2

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import DisentangledPositionEmbedding
    >>> position = DisentangledPositionEmbedding(max_distance=16, num_buckets=4)
    >>> np.asarray(position.buckets(np.array([[9]]), np.array([[0, 5, 8, 9, 10]])))
    array([[[7, 7, 5, 4, 3]]], dtype=int32)
    """

    def __init__(
        self,
        max_distance: int = 512,
        num_buckets: int | None = None,
        norm: bool = True,
        norm_epsilon: float = 1e-7,
        embeddings_initializer: Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        check_positive(max_distance=max_distance, num_buckets=1 if num_buckets is None else num_buckets)
        check_positive_number(norm_epsilon=norm_epsilon)
        if num_buckets is not None and not 4 <= num_buckets <= max_distance:
            raise ValueError(
                f"`num_buckets` must be from 4 to max_distance={max_distance}, or None for a bucket per distance. "
                f"Received: num_buckets={num_buckets}"
            )
        super().__init__(**kwargs)
        self.max_distance, self.num_buckets = max_distance, num_buckets
        self.norm, self.norm_epsilon = norm, norm_epsilon
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, inputs_shape: Shape) -> None:
        shape = (2 * self._side, inputs_shape[-1])
        self.embeddings = self.add_weight(name="embeddings", shape=shape, initializer=self.embeddings_initializer)
        self.norm_layer = None
        if self.norm:
            self.norm_layer = LayerNormalization(self.norm_epsilon, dtype=self.dtype_policy, name="norm")
            self.norm_layer.build(shape)

    @property
    def _side(self):
        return self.num_buckets or self.max_distance

    def vectors(self) -> Tensor:
        """The vectors of all buckets, float `(1, 2 * num_buckets, D)`."""
        table = ops.cast(ops.expand_dims(self.embeddings, 0), self.compute_dtype)
        return table if self.norm_layer is None else self.norm_layer(table)

    def buckets(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """The bucket of each pair.

        Args:
            query_positions: Int32 `(B, T)` or `(1, T)`.
            key_positions: Int32 `(B, S)` or `(1, S)`.

        Returns:
            Int32 `(B, T, S)`, in `[0, 2 * num_buckets)`; larger for keys further before the query.
        """
        keys, queries = ops.expand_dims(key_positions, 1), ops.expand_dims(query_positions, -1)
        distances = ops.cast(ops.subtract(queries, keys), "int32")
        far = self.max_distance
        return rows(_bucket_table(far, self.num_buckets), ops.clip(distances, -far, far) + far)


def _bucket_table(max_distance, num_buckets):
    """The bucket of each distance from `-max_distance` to `max_distance`."""
    distances = np.arange(-max_distance, max_distance + 1)
    side = num_buckets or max_distance
    buckets = distances
    if num_buckets is not None:
        middle, size = num_buckets // 2, np.abs(distances)
        # In float32 as DeBERTa's own code, which decides the buckets at their edges.
        ratios = np.log(np.maximum(size, middle).astype("float32") / np.float32(middle))
        ratios /= np.log(np.float32((max_distance - 1) / middle))
        far = np.ceil(ratios * np.float32(middle - 1)) + middle
        buckets = np.where(size <= middle, distances, np.sign(distances) * far)
    return np.clip(buckets + side, 0, 2 * side - 1).astype("int32")
