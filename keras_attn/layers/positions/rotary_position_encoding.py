"""Rotary position encoding (RoPE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops import rotary
from keras_attn.ops.rotary_scaling import check_scaling
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class RotaryPositionEncoding(PositionEncoding):
    """Rotates channel pair `i` of queries and keys at position `p` by `p * base^(-2i / rotary_dim)`.

    Dot products of queries and keys then depend on relative positions only. Pass the layer to an attention layer or a
    block as `position=`; embeddings pass through it unchanged.

    Args:
        base: Base of the frequencies.
        rotary_dim: Number of leading channels per head to rotate, even; None for all.
        interleaved: Whether channels `(2i, 2i + 1)` form a pair (RoFormer, GPT-J), rather than
            `(i, i + rotary_dim / 2)` (Llama, GPT-NeoX).
        scaling: Optional dict in the format of Hugging Face's `rope_scaling`, for contexts longer than in training,
            such as `{"rope_type": "linear", "factor": 2.0}`. See `keras_attn.ops.rotary_frequencies` for the types.
            With "dynamic" and "longrope", rotations depend on the sequence length, padding included, once it exceeds
            the original length. With "dynamic", cached keys keep their rotation; with "longrope", caches hold keys
            before their rotation, so that all turn at the step that exceeds the original length.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `rotary_dim` is odd, not positive, or wider than a head, or if `scaling` has an unknown type,
            lacks a setting, or has one that its type does not use.

    Reference:
        [Su et al., 2021](https://arxiv.org/abs/2104.09864)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import MultiHeadAttention, RotaryPositionEncoding
    >>> attention = MultiHeadAttention(num_heads=2, key_dim=8, position=RotaryPositionEncoding())
    >>> tuple(attention(np.ones((3, 5, 16), "float32")).shape)
    (3, 5, 16)
    """

    def __init__(
        self,
        base: float = 10000.0,
        rotary_dim: int | None = None,
        interleaved: bool = False,
        scaling: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if rotary_dim is not None and (not isinstance(rotary_dim, int) or rotary_dim <= 0 or rotary_dim % 2):
            raise ValueError(
                f"`rotary_dim` must be None or a positive even integer. Received: rotary_dim={rotary_dim!r}"
            )
        check_scaling(scaling)
        super().__init__(**kwargs)
        self.base, self.rotary_dim = base, rotary_dim
        self.interleaved, self.scaling = interleaved, scaling

    @property
    def depends_on_length(self) -> bool:
        return self._kind in ("dynamic", "longrope")

    @property
    def rotates_cache(self) -> bool:
        return self._kind == "longrope"

    @property
    def _kind(self):
        scaling = self.scaling or {}
        return scaling.get("rope_type", scaling.get("type"))

    def rotate_cache(self, keys: Tensor, key_positions: Tensor, query_positions: Tensor) -> Tensor:
        return self._rotated(keys, key_positions, query_positions)

    def rotate(self, heads: Tensor, positions: Tensor) -> Tensor:
        return self._rotated(heads, positions, positions)

    def _rotated(self, heads, positions, row_positions):
        width = heads.shape[-1]
        if (self.rotary_dim or 0) > width or (self.rotary_dim is None and width % 2):
            raise ValueError(
                "`rotary_dim` must be even and at most the head width. "
                f"Received: rotary_dim={self.rotary_dim} with heads of width {width}"
            )
        return rotary(
            heads,
            positions,
            base=self.base,
            rotary_dim=self.rotary_dim,
            interleaved=self.interleaved,
            scaling=self.scaling,
            row_positions=row_positions,
        )
