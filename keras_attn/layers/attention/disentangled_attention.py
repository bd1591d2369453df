"""Disentangled attention to contents and relative positions."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.attention.head_projections import heads_first
from keras_attn.layers.attention.multi_head_attention import MultiHeadAttention
from keras_attn.layers.positions.disentangled_position_embedding import DisentangledPositionEmbedding
from keras_attn.ops.arrays import add, matmul_transposed, repeat_heads
from keras_attn.ops.positions import bucket_logits
from keras_attn.typing import Shape


@keras.saving.register_keras_serializable(package="keras_attn")
class DisentangledAttention(MultiHeadAttention):
    """Attention with logits `(q_t k_s + q_t k_r + q_r k_s) / sqrt(3 key_dim)` of contents and of a relative position.

    `k_r` and `q_r` are projections of the vector that `position` has for the distance of `t` and `s`. This is the
    attention of DeBERTa, v2 and v3; its blocks share one `position`.

    Args:
        num_heads: Number of query heads `N`.
        key_dim: Width `H` of the query and key heads.
        position: A `DisentangledPositionEmbedding`. A block that copies this layer from a template without `position`
            passes its own.
        share_projections: Whether contents and positions have the same projections, as in DeBERTa-v3.
        content_to_position: Whether to add `q_t k_r`.
        position_to_content: Whether to add `q_r k_s`.
        **kwargs: All other arguments of `MultiHeadAttention` except `qk_norm`, `add_bias_kv` and `add_zero_attn`.

    Call arguments:
        query: Float `(B, T, D)`.
        **kwargs: All other call arguments of `MultiHeadAttention`.

    Returns:
        As `MultiHeadAttention`: float `(B, T, D)`.

    Raises:
        ValueError: If an argument is invalid, or there is no `position` when the layer is built.

    Reference:
        [He et al., 2021](https://arxiv.org/abs/2006.03654); shared projections
        [He et al., 2023](https://arxiv.org/abs/2111.09543)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import DisentangledAttention, DisentangledPositionEmbedding, EncoderBlock
    >>> position = DisentangledPositionEmbedding(max_distance=512, num_buckets=256)
    >>> block = EncoderBlock(attention=DisentangledAttention(4, 8), position=position, intermediate_dim=64)
    >>> tuple(block(np.ones((2, 5, 32), "float32")).shape)
    (2, 5, 32)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        position: DisentangledPositionEmbedding | None = None,
        share_projections: bool = True,
        content_to_position: bool = True,
        position_to_content: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, key_dim, position=position, **kwargs)
        if not isinstance(self.position, DisentangledPositionEmbedding | None):
            raise ValueError(
                f"`position` must be a DisentangledPositionEmbedding or None. Received: position={position!r}"
            )
        if self.qk_norm or self._num_extra_keys:
            raise ValueError(
                "`qk_norm`, `add_bias_kv` and `add_zero_attn` must be False. Received: "
                f"qk_norm={self.qk_norm}, add_bias_kv={self.add_bias_kv}, add_zero_attn={self.add_zero_attn}"
            )
        self.share_projections = share_projections
        self.content_to_position, self.position_to_content = content_to_position, position_to_content

    def build(self, query_shape: Shape, value_shape: Shape | None = None, key_shape: Shape | None = None) -> None:
        if self.position is None:
            raise ValueError(
                "`position` must be a DisentangledPositionEmbedding; with a template, pass it to the block, stack or "
                "model. Received: position=None"
            )
        super().build(query_shape, value_shape, key_shape)
        self.position_query_dense = self.position_key_dense = None
        if not self.share_projections:
            heads = self.num_heads, self.key_dim
            if self.position_to_content:
                self.position_query_dense = self._to_heads("position_query", query_shape, heads)
            if self.content_to_position:
                heads = self.num_kv_heads, self.key_dim
                self.position_key_dense = self._to_heads("position_key", query_shape, heads)

    @property
    def _scale(self):
        terms = 1 + int(self.content_to_position) + int(self.position_to_content)
        return (terms * self.key_dim) ** -0.5

    def _attend(self, q, k, v, mask, bias, *settings):
        vectors = self.position.vectors()
        buckets = self.position.buckets(mask.query_positions, mask.key_positions)
        if self.content_to_position:
            far = repeat_heads(heads_first((self.position_key_dense or self.key_dense)(vectors)), self.num_heads)
            logits = bucket_logits(matmul_transposed(q * self._scale, far), buckets)
            bias = logits if bias is None else add(bias, logits)
        if self.position_to_content:
            far = heads_first((self.position_query_dense or self.query_dense)(vectors))
            logits = matmul_transposed(repeat_heads(k, self.num_heads), far * self._scale)
            logits = bucket_logits(logits, buckets, of_keys=True)
            bias = logits if bias is None else add(bias, logits)
        return super()._attend(q, k, v, mask, bias, *settings)
