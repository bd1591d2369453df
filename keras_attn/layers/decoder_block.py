"""One layer of a Transformer decoder."""

import keras

from keras_attn.layers.block import Block
from keras_attn.layers.implicit_mask import implicit_mask


@keras.saving.register_keras_serializable(package="keras_attn")
class DecoderBlock(Block):
    """Causal self-attention, attention to a memory, then a feed-forward network, each inside a `Residual`.

    Args:
        num_heads, intermediate_dim: as for `EncoderBlock`.
        cross_attention: whether there is attention to a memory; False gives the block of a decoder-only model.
        causal: whether self-attention hides later positions.
        **kwargs: every other argument of `EncoderBlock`.

    Call arguments:
        inputs: float `(B, T, D)`.
        memory: float `(B, S, Dm)`, the encoder's output. Not needed where `memory_cache` is given.
        inputs_mask: optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        memory_mask: optional bool `(B, S)`, False at padding. Filled from the Keras mask of the memory.
        attention_mask: optional bool that broadcasts to `(B, N, T, T)`, for self-attention; True = may attend.
        memory_attention_mask: optional bool that broadcasts to `(B, N, T, S)`, for attention to the memory.
        bias: optional float that broadcasts to `(B, N, T, T)`, added to the logits of self-attention.
        positions: optional int32 `(B, T)` or `(1, T)`; required with `cache`.
        cache: optional `(key, value)` of self-attention, see `MultiHeadAttention`.
        memory_cache: optional result of `project_memory`.
        training: whether dropout is on.

    Returns:
        Float `(B, T, D)`; with `cache`, `(output, cache)`.

    Raises:
        ValueError: an argument or a shape does not fit; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import DecoderBlock
    >>> block = DecoderBlock(num_heads=4, intermediate_dim=64)
    >>> memory = np.ones((2, 7, 16), "float32")
    >>> tuple(block(np.ones((2, 3, 16), "float32"), memory).shape)
    (2, 3, 16)
    """

    def __init__(self, num_heads, intermediate_dim, *, cross_attention=True, causal=True, **kwargs):
        super().__init__(num_heads, intermediate_dim, **kwargs)
        self._cross_attention = cross_attention
        self.causal = causal

    def build(self, inputs_shape, memory_shape=None):
        self.self_attention = self._attention(
            "self_attention", inputs_shape, position=self.position, window=self.window, causal=self.causal
        )
        self.self_attention.build(inputs_shape)
        if self._cross_attention:
            self.cross_attention = self._attention("cross_attention", inputs_shape)
            self.cross_attention.build(inputs_shape, inputs_shape if memory_shape is None else memory_shape)
        self.feed_forward = self._feed_forward()
        self.feed_forward.build(inputs_shape)

    def project_memory(self, memory):
        """Keys and values of `memory` `(B, S, Dm)` for `memory_cache`: `(key, value)`, `(B, K, S, H)` each."""
        return self.cross_attention.layer.project_memory(memory)

    def call(
        self,
        inputs,
        memory=None,
        *,
        inputs_mask=None,
        memory_mask=None,
        attention_mask=None,
        memory_attention_mask=None,
        bias=None,
        positions=None,
        cache=None,
        memory_cache=None,
        training=None,
    ):
        if self._cross_attention == (memory is None and memory_cache is None):
            expected = "needs `memory` or `memory_cache`" if self._cross_attention else "takes no `memory`"
            raise ValueError(
                f"A decoder block with cross_attention={self._cross_attention} {expected}. "
                f"Received: memory={memory}, memory_cache={memory_cache}"
            )
        inputs_mask = implicit_mask(inputs, inputs_mask)
        x = self.self_attention(
            inputs,
            query_mask=inputs_mask,
            attention_mask=attention_mask,
            bias=bias,
            positions=positions,
            cache=cache,
            training=training,
        )
        x, cache = x if cache is not None else (x, None)
        if self._cross_attention:
            x = self.cross_attention(
                x,
                memory,
                query_mask=inputs_mask,
                value_mask=memory_mask,
                attention_mask=memory_attention_mask,
                memory_cache=memory_cache,
                training=training,
            )
        x = self.feed_forward(x, training=training)
        return x if cache is None else (x, cache)

    def compute_output_spec(self, inputs, memory=None, *, cache=None, **kwargs):
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if cache is None:
            return output
        return output, tuple(keras.KerasTensor(x.shape, dtype=x.dtype) for x in cache)
