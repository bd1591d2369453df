"""One layer of a Transformer encoder."""

import keras

from keras_attn.layers.block import Block
from keras_attn.layers.implicit_mask import implicit_mask


@keras.saving.register_keras_serializable(package="keras_attn")
class EncoderBlock(Block):
    """Self-attention, then a feed-forward network, each inside a `Residual`.

    Args:
        num_heads: number of attention heads.
        intermediate_dim: inner width of the feed-forward network.
        key_dim: width of a head; the inputs' channels over `num_heads` where None.
        num_kv_heads: number of key/value heads; `num_heads` where None.
        activation: activation of the feed-forward network.
        norm: placement of layer normalisation: "pre", "post", "sandwich" or None, see `Residual`.
        dropout: rate of the dropout on each sub-layer's output.
        attention_dropout: rate of the dropout on attention weights.
        activation_dropout: rate of the dropout inside the feed-forward network.
        use_attention_bias: whether the projections of attention have biases.
        position: optional `PositionEncoding` that acts on queries, keys and logits.
        window: optional int, see `MultiHeadAttention`.
        mechanism: attention kernel, see `MultiHeadAttention`.
        norm_epsilon: added to the variance in layer normalisation.
        seed: seed of all dropouts.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(B, T, D)`.
        inputs_mask: optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        attention_mask: optional bool that broadcasts to `(B, N, T, T)`, True = may attend.
        bias: optional float that broadcasts to `(B, N, T, T)`, added to the logits.
        positions: optional int32 `(B, T)` or `(1, T)`.
        training: whether dropout is on.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: an argument or a shape does not fit; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import EncoderBlock
    >>> block = EncoderBlock(num_heads=4, intermediate_dim=64, norm="post", dropout=0.1)
    >>> mask = np.array([[True, True, False], [True, True, True]])
    >>> tuple(block(np.ones((2, 3, 16), "float32"), inputs_mask=mask).shape)
    (2, 3, 16)
    """

    def build(self, inputs_shape):
        self.self_attention = self._attention(
            "self_attention", inputs_shape, position=self.position, window=self.window
        )
        self.feed_forward = self._feed_forward()
        self.self_attention.build(inputs_shape)
        self.feed_forward.build(inputs_shape)

    def call(self, inputs, *, inputs_mask=None, attention_mask=None, bias=None, positions=None, training=None):
        x = self.self_attention(
            inputs,
            query_mask=implicit_mask(inputs, inputs_mask),
            attention_mask=attention_mask,
            bias=bias,
            positions=positions,
            training=training,
        )
        return self.feed_forward(x, training=training)

    def compute_output_spec(self, inputs, **kwargs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
