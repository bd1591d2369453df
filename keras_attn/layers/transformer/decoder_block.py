"""One layer of a Transformer decoder."""

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
        cross_attention: Whether there is attention to a memory; False gives the block of a decoder-only model.
        causal: Whether self-attention hides later positions.
        cross_attention_options: Optional dict of any further arguments of `MultiHeadAttention`, for attention to the
            memory. `position`, `window` and `attention` act in self-attention only: `num_heads` must be given where
            there is attention to a memory.
        **kwargs: All other arguments of `EncoderBlock`; `parallel` goes without `cross_attention`. A `norm` of each
            sub-layer has an entry "cross_attention" where there is attention to a memory.

    Call arguments:
        inputs: Float `(B, T, D)`.
        memory: Float `(B, S, Dm)`, the encoder's output. Not needed where `memory_cache` is given. With a tuple of
            memories, the block has attention to each of them, one after the other; what is said of a memory is then a
            tuple too, or None.
        inputs_mask, memory_mask: Optional bool `(B, T)` and `(B, S)`, False at padding; else the tensors' Keras masks.
        mask: `inputs_mask` under the name that wrappers such as `keras.layers.TimeDistributed` know.
        attention_mask, memory_attention_mask: Optional bool that broadcasts to `(B, N, T, T)` and `(B, N, T, S)`, for
            self-attention and for attention to the memory; True = may attend.
        bias: Optional float that broadcasts to `(B, N, T, T)`, added to the logits of self-attention.
        positions: Optional int32 `(B, T)` or `(1, T)`; required with `cache`.
        segments, memory_segments: Optional int32 `(B, T)` and `(B, S)`, see `MultiHeadAttention`; without the latter a
            token attends to the whole memory.
        cache: Optional `(key, value)` of self-attention, or what an `attention` of one's own keeps, from `empty_cache`
            or from the last call; `()` for the first.
        slots: Optional, see `MultiHeadAttention`.
        memory_cache: Optional result of `project_memory`.
        training: Whether to apply dropout.

    Returns:
        Float `(B, T, D)`; with `cache`, `(output, cache)`.

    Raises:
        ValueError: If an argument or a shape does not fit, or a memory is missing, or there is no attention to one; the
            message names the argument.

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
        # The base's constructor checks its arguments by it.
        self._cross_attention = cross_attention
        super().__init__(num_heads, intermediate_dim, **kwargs)
        if self.parallel and cross_attention:
            raise ValueError(f"`parallel` goes without `cross_attention`. Received: parallel={self.parallel!r}")
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

        Of a tuple of memories, a tuple of them.
        """
        if not isinstance(self.cross_attention, list):
            return self.cross_attention.layer.project_memory(memory)
        pairs = zip(self.cross_attention, self._each("memory", memory), strict=True)
        return tuple(layer.layer.project_memory(x) for layer, x in pairs)

    def _each(self, name, value):
        """A list of what goes with each attention to a memory; a ValueError where there are not as many."""
        if not isinstance(self.cross_attention, list):
            return [value]
        count = len(self.cross_attention)
        if value is not None and (not isinstance(value, list | tuple) or len(value) != count):
            raise ValueError(f"`{name}` must be a tuple of {count}, one for each memory. Received: {value}")
        return [None] * count if value is None else list(value)

    def empty_cache(self, batch: Tensor, length: int) -> tuple[Nest, ...]:
        """A `cache` of zeros for `batch` rows of up to `length` tokens; the block must be built.

        Raises:
            ValueError: If the block's `attention` has no `empty_cache`.
        """
        layer = self._attention_layer()
        if not hasattr(layer, "empty_cache"):
            raise ValueError(
                "`attention` must have a method `empty_cache(batch, length)`, which returns a tuple of tensors "
                f"(batch, heads, length, width), for tokens to be decoded with a cache. Received: attention={layer!r}"
            )
        return layer.empty_cache(batch, length)

    def attention_span(self) -> tuple[int, int] | None:
        """`(window, sink_tokens)` of self-attention, beyond which no query looks back; None without a window."""
        layer = self._attention_layer()
        window = getattr(layer, "window", None)
        return None if window is None else (window, getattr(layer, "sink_tokens", 0))

    def _attention_layer(self):
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
