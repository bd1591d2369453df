"""Transformer decoder block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.transformer.block import Block
from keras_attn.typing import Nest, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class DecoderBlock(Block):
    """Causal self-attention, attention to a memory, then a feed-forward network, each inside a `Residual`.

    Args:
        num_heads, intermediate_dim: As for `EncoderBlock`.
        cross_attention: Whether to attend to a memory. False gives the block of a decoder-only model.
        causal: Whether self-attention hides later positions.
        cross_attention_options: Optional dict of further arguments of `MultiHeadAttention`, for the attention to the
            memory. `position`, `window` and `attention` apply to self-attention only, so `cross_attention` needs
            `num_heads`.
        **kwargs: All other arguments of `EncoderBlock`; `parallel` needs `cross_attention=False`. With
            `cross_attention`, a dict as `norm` has an entry "cross_attention".

    Call arguments:
        inputs: Float `(B, T, D)`.
        memory: Float `(B, S, Dm)`, the encoder's output. Not needed with `memory_cache`. With a tuple of memories, the
            block attends to each of them in turn; arguments about the memory are then tuples too, or None.
        inputs_mask, memory_mask: Optional bool `(B, T)` and `(B, S)`, False at padding. Default to the Keras masks.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.
        attention_mask, memory_attention_mask: Optional bool that broadcasts to `(B, N, T, T)` and `(B, N, T, S)`, for
            self-attention and for attention to the memory; True = may attend.
        bias: Optional float that broadcasts to `(B, N, T, T)`, added to the logits of self-attention.
        positions: Optional int32 `(B, T)` or `(1, T)`; required with `cache`.
        segments, memory_segments: Optional int32 `(B, T)` and `(B, S)`. See `MultiHeadAttention`. Without
            `memory_segments`, tokens attend to the whole memory.
        cache: Optional `(key, value)` of self-attention, or the cache of a custom `attention`, from `empty_cache` or
            the previous call; `()` in the first call.
        slots: Optional. See `MultiHeadAttention`.
        memory_cache: Optional result of `project_memory`.
        training: Whether to apply dropout.

    Returns:
        Float `(B, T, D)`; with `cache`, `(output, cache)`.

    Raises:
        ValueError: If an argument or a shape is invalid, or a memory is missing or not supported; the message names the
            argument.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1; several memories in turn
        [Libovický et al., 2018](https://arxiv.org/abs/1811.04716), section 3.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import DecoderBlock
    >>> block = DecoderBlock(num_heads=4, intermediate_dim=64)
    >>> memory = np.ones((2, 7, 16), "float32")
    >>> tuple(block(np.ones((2, 3, 16), "float32"), memory).shape)
    (2, 3, 16)
    """

    def __init__(
        self,
        num_heads: int | None = None,
        intermediate_dim: int | None = None,
        *,
        cross_attention: bool = True,
        causal: bool = True,
        cross_attention_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # Set first, since the base constructor checks its arguments by it.
        self._cross_attention = cross_attention
        super().__init__(num_heads, intermediate_dim, **kwargs)
        if self.parallel and cross_attention:
            raise ValueError(f"`parallel` must be False with `cross_attention`. Received: parallel={self.parallel!r}")
        self.causal = causal
        self.cross_attention_options = deserialized(cross_attention_options)

    @property
    def _has_memory(self):
        return self._cross_attention

    def build(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> None:
        memory_shape = (memory_shape or inputs_shape) if self._cross_attention else None
        self._build(inputs_shape, self.causal, memory_shape, self.cross_attention_options)

    def project_memory(self, memory: Nest) -> tuple[Nest, ...]:
        """Keys and values of `memory` `(B, S, Dm)` for `memory_cache`: `(key, value)`, `(B, K, S, H)` each.

        For a tuple of memories, a tuple of such pairs.
        """
        if not isinstance(self.cross_attention, list):
            return self.cross_attention.layer.project_memory(memory)
        pairs = zip(self.cross_attention, self._each("memory", memory), strict=True)
        return tuple(layer.layer.project_memory(x) for layer, x in pairs)

    def _each(self, name, value):
        """A list of the values for each memory; raises a ValueError if their number is wrong."""
        if not isinstance(self.cross_attention, list):
            return [value]
        count = len(self.cross_attention)
        if value is not None and (not isinstance(value, list | tuple) or len(value) != count):
            raise ValueError(f"`{name}` must be a tuple of {count}, one per memory. Received: {value}")
        return [None] * count if value is None else list(value)

    def empty_cache(self, batch: Tensor, length: int) -> tuple[Nest, ...]:
        """Returns a `cache` of zeros for `batch` rows of up to `length` tokens; the block must be built.

        Raises:
            ValueError: If the block's `attention` has no `empty_cache`.
        """
        layer = self.attention_layer()
        if not hasattr(layer, "empty_cache"):
            raise ValueError(
                "`attention` must have a method `empty_cache(batch, length)`, which returns a tuple of tensors "
                f"(batch, heads, length, width), for tokens to be decoded with a cache. Received: attention={layer!r}"
            )
        return layer.empty_cache(batch, length)

    def attention_span(self) -> tuple[int, int] | None:
        """`(window, sink_tokens)` of self-attention: the only past tokens that queries attend to. None if all are."""
        layer = self.attention_layer()
        window = getattr(layer, "window", None)
        return None if window is None else (window, getattr(layer, "sink_tokens", 0))

    def attention_layer(self) -> keras.layers.Layer:
        """The self-attention layer, inside of its residual and parallel wrappers; the block must be built."""
        if not self.parallel:
            return self.self_attention.layer
        first = self.side_by_side.layer.first
        return first.layer if self.parallel == "two_norms" else first

    def call(
        self,
        inputs: Tensor,
        memory: Nest | None = None,
        *,
        inputs_mask: Tensor | None = None,
        mask: Tensor | None = None,
        memory_mask: Nest | None = None,
        attention_mask: Tensor | None = None,
        memory_attention_mask: Nest | None = None,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        memory_segments: Nest | None = None,
        cache: Nest | None = None,
        slots: Nest | None = None,
        memory_cache: Nest | None = None,
        training: bool | None = None,
    ) -> Tensor | tuple[Tensor, Nest]:
        if self._cross_attention == (memory is None and memory_cache is None):
            expected = "needs `memory` or `memory_cache`" if self._cross_attention else "takes no `memory`"
            raise ValueError(
                f"A decoder block with cross_attention={self._cross_attention} {expected}. "
                f"Received: memory={memory}, memory_cache={memory_cache}"
            )
        inputs_mask = implicit_mask(inputs, inputs_mask, mask)
        own = {"attention_mask": attention_mask, "bias": bias, "positions": positions}
        own |= {"query_mask": inputs_mask, "segments": segments, "cache": cache, "slots": slots}
        if not self._cross_attention:
            return self._run(inputs, own, training=training)
        memories = self._each("memory", memory)
        names = {"value_mask": "memory_mask", "attention_mask": "memory_attention_mask"}
        names |= {"memory_cache": "memory_cache", "value_segments": "memory_segments"}
        given = (memory_mask, memory_attention_mask, memory_cache, memory_segments)
        given = [self._each(name, value) for name, value in zip(names.values(), given, strict=True)]
        other = []
        for values in zip(*given, strict=True):
            arguments = {"query_mask": inputs_mask, **dict(zip(names, values, strict=True))}
            if arguments["value_segments"] is None:
                del arguments["value_segments"]
            else:
                arguments["segments"] = segments
            other.append(arguments)
        return self._run(inputs, own, memories, other, training)

    def compute_output_spec(
        self, inputs: Tensor, memory: Nest | None = None, *, cache: Nest | None = None, **kwargs: Any
    ) -> Nest:
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if cache is None:
            return output
        return output, keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), cache)
