"""What encoder and decoder blocks share: their arguments, and how these become sub-layers."""

import keras
from keras import activations

from keras_attn.layers.argument_checks import check_positive
from keras_attn.layers.configurable import Configurable
from keras_attn.layers.feed_forward import FeedForward
from keras_attn.layers.multi_head_attention import MultiHeadAttention
from keras_attn.layers.residual import Residual
from keras_attn.layers.serialization import deserialized


class Block(Configurable, keras.layers.Layer):
    """Attention and feed-forward sub-layers in residual wrappers; see `EncoderBlock` for the arguments."""

    def __init__(
        self,
        num_heads,
        intermediate_dim,
        *,
        key_dim=None,
        num_kv_heads=None,
        activation="relu",
        norm="pre",
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        use_attention_bias=True,
        position=None,
        window=None,
        mechanism="auto",
        norm_epsilon=1e-6,
        seed=None,
        **kwargs,
    ):
        check_positive(num_heads=num_heads, intermediate_dim=intermediate_dim)
        position = deserialized(position)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.key_dim = key_dim
        self.num_kv_heads = num_kv_heads
        self.activation = activations.get(activation)
        self.norm = norm
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.use_attention_bias = use_attention_bias
        self.position = position
        self.window = window
        self.mechanism = mechanism
        self.norm_epsilon = norm_epsilon
        self.seed = seed

    def _attention(self, name, inputs_shape, **kwargs):
        """An attention sub-layer in its residual, for inputs of width D = `inputs_shape[-1]`."""
        width = inputs_shape[-1]
        if len(inputs_shape) != 3:
            raise ValueError(f"`inputs` must have rank 3 (batch, length, channels). Received: shape {inputs_shape}")
        if self.key_dim is None and width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the {width} channels of the inputs, or `key_dim` must be given. "
                f"Received: num_heads={self.num_heads}"
            )
        attention = MultiHeadAttention(
            self.num_heads,
            self.key_dim or width // self.num_heads,
            num_kv_heads=self.num_kv_heads,
            dropout=self.attention_dropout,
            use_bias=self.use_attention_bias,
            mechanism=self.mechanism,
            seed=self.seed,
            dtype=self.dtype_policy,
            name="attention",
            **kwargs,
        )
        return self._residual(name, attention)

    def _feed_forward(self):
        feed_forward = FeedForward(
            self.intermediate_dim,
            activation=self.activation,
            dropout=self.activation_dropout,
            seed=self.seed,
            dtype=self.dtype_policy,
            name="network",
        )
        return self._residual("feed_forward", feed_forward)

    def _residual(self, name, layer):
        return Residual(
            layer,
            self.norm,
            self.dropout,
            self.norm_epsilon,
            seed=self.seed,
            dtype=self.dtype_policy,
            name=name,
        )
