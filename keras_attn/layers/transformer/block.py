"""Base class of encoder and decoder blocks: their arguments and sub-layers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import activations

from keras_attn.argument_checks import check_positive
from keras_attn.layers.attention.multi_head_attention import MultiHeadAttention
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.base.template import Template
from keras_attn.layers.transformer.feed_forward import FeedForward
from keras_attn.layers.transformer.own_attention import check_stands_in, own_attention
from keras_attn.layers.transformer.parallel import Parallel
from keras_attn.layers.transformer.placement import check_norms, norm_of
from keras_attn.layers.transformer.residual import Residual
from keras_attn.layers.transformer.scaled_initializer import scaled
from keras_attn.layers.transformer.scaled_kernels import scale_kernels
from keras_attn.layers.transformer.self_attention_call import SelfAttentionCall
from keras_attn.ops.rematerialization import rematerialized
from keras_attn.typing import Activation, Nest, Seed, Shape

if TYPE_CHECKING:
    from keras_attn.layers.positions.position_encoding import PositionEncoding


# The arguments of a block that are template layers, copied by each block.
TEMPLATES = ("attention", "feed_forward")


class Block(Configurable, keras.layers.Layer):
    """Attention and feed-forward sub-layers in residual wrappers; see `EncoderBlock` for the arguments."""

    # Whether there is attention to a memory besides.
    _has_memory = False

    def __init__(
        self,
        num_heads: int | None = None,
        intermediate_dim: int | None = None,
        *,
        key_dim: int | None = None,
        num_kv_heads: int | None = None,
        use_attention_bias: bool | Sequence[str] = True,
        attention_dropout: float = 0.0,
        mechanism: str = "auto",
        position: PositionEncoding | None = None,
        window: int | None = None,
        attention_options: Mapping[str, Any] | None = None,
        attention: keras.Layer | None = None,
        feed_forward: keras.Layer | None = None,
        activation: Activation = "relu",
        activation_dropout: float = 0.0,
        norm: str | Mapping[str, str | None] | None = "pre",
        norm_layer: str = "layer",
        norm_epsilon: float = 1e-6,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        residual_options: Mapping[str, Any] | None = None,
        parallel: bool | str = False,
        init_gain: float = 1.0,
        remat: bool = False,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        attention, feed_forward = Template.of(attention, "attention"), deserialized(feed_forward)
        check_stands_in(attention, window=window, attention_options=attention_options)
        if attention is None or self._has_memory:
            check_positive(num_heads=num_heads)
        else:
            check_stands_in(attention, key_dim=key_dim, num_kv_heads=num_kv_heads)
        if feed_forward is None:
            check_positive(intermediate_dim=intermediate_dim)
        elif not isinstance(feed_forward, keras.layers.Layer | Template) or intermediate_dim is not None:
            raise ValueError(
                "`feed_forward` must be a Keras layer, without `intermediate_dim`. "
                f"Received: feed_forward={feed_forward!r}, intermediate_dim={intermediate_dim!r}"
            )
        if parallel not in (False, True, "two_norms"):
            raise ValueError(f"`parallel` must be False, True or 'two_norms'. Received: parallel={parallel!r}")
        if parallel == "two_norms" and norm != "pre":
            raise ValueError(f"`parallel='two_norms'` goes with norm='pre' only. Received: norm={norm!r}")
        cross_attention = ["cross_attention"] if self._has_memory else []
        check_norms(norm, ["self_attention", *cross_attention, "feed_forward"], parallel)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads, self.key_dim, self.num_kv_heads = num_heads, key_dim, num_kv_heads
        self.position, self.window, self.mechanism = deserialized(position), window, mechanism
        self.use_attention_bias, self.attention_dropout = use_attention_bias, attention_dropout
        self.attention_options = deserialized(attention_options)
        self.intermediate_dim, self.activation_dropout = intermediate_dim, activation_dropout
        self.activation = activations.get(activation)
        self._attention, self._feed_forward = attention, Template.of(feed_forward, "feed_forward")
        self.norm, self.norm_layer, self.norm_epsilon = norm, norm_layer, norm_epsilon
        self.dropout, self.stochastic_depth, self.residual_options = dropout, stochastic_depth, residual_options
        self.parallel, self.init_gain, self.remat, self.seed = parallel, init_gain, remat, seed
        self._num_seeds = 0

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> Shape:
        return tuple(inputs_shape)

    def _build(self, inputs_shape, causal=False, memory_shape=None, memory_options=None):
        """Creates the sub-layers, with attention to each memory of `memory_shape`, one shape or a list."""
        if len(inputs_shape) != 3:
            raise ValueError(f"`inputs` must have rank 3 (batch, length, channels). Received: shape {inputs_shape}")
        attention, is_scaled = self._self_attention(inputs_shape[-1], causal)
        network = self._network()
        unscaled = {"feed_forward": network} if is_scaled else {"feed_forward": network, "attention": attention}
        gain = self.init_gain
        checks = [] if gain == 1 else [scale_kernels(layer, gain, name) for name, layer in unscaled.items()]
        self._build_around(attention, network, inputs_shape, memory_shape, memory_options)
        for check in checks:
            check()

    def _build_around(self, attention, network, inputs_shape, memory_shape, memory_options):
        self._network_takes_mask = "inputs_mask" in inspect.signature(network.call).parameters
        if self.parallel:
            self.side_by_side = self._side_by_side(attention, network)
            self.side_by_side.build(inputs_shape)
            return
        self.self_attention = self._residual("self_attention", attention)
        self.self_attention.build(inputs_shape)
        if memory_shape is not None:
            several = isinstance(memory_shape[0], list | tuple)
            layers = []
            for number, shape in enumerate(memory_shape if several else [memory_shape]):
                attention = self._multi_head_attention(inputs_shape[-1], memory_options or {})
                name = f"cross_attention_{number}" if number else "cross_attention"
                layers.append(self._residual(name, attention, "cross_attention"))
                layers[-1].build(inputs_shape, shape)
            self.cross_attention = layers if several else layers[0]
        self.feed_forward = self._residual("feed_forward", network)
        self.feed_forward.build(inputs_shape)

    def _run(self, inputs, own, memory=(), other=(), training=None):
        """Calls the sub-layers in order.

        `own` holds the arguments of self-attention, and `other` those of the attention to each entry of `memory`.
        """
        bias = own.pop("bias")
        if not self.remat or not training or own.get("cache") is not None:
            return self._sublayers(inputs, bias, memory, own, other, training)
        return rematerialized(
            lambda inputs, bias, *memory: self._sublayers(inputs, bias, memory, own, other, training),
            (inputs, bias, *memory),
            self,
        )

    def _sublayers(self, inputs, bias, memory, own, other, training):
        network = {"inputs_mask": own["query_mask"]} if self._network_takes_mask else {}
        own = self._attention_call.arguments({"bias": bias, **own})
        if self.parallel:
            x = self.side_by_side(inputs, second_arguments=network, training=training, **own)
        else:
            x = self.self_attention(inputs, training=training, **own)
        x, *cache = x if isinstance(x, tuple) else (x,)
        if cache and own.get("cache") is None:
            raise ValueError(
                "`attention` must return one tensor (batch, length, channels) if it is called without `cache`. "
                f"Received: {1 + len(cache)} results"
            )
        for layer, source, arguments in zip(self._cross_attentions() if other else (), memory, other, strict=True):
            x = layer(x, source, training=training, **arguments)
        if not self.parallel:
            x = self.feed_forward(x, training=training, **network)
        return (x, *cache) if cache else x

    def _cross_attentions(self):
        """The sub-layers that attend to a memory."""
        return self.cross_attention if isinstance(self.cross_attention, list) else [self.cross_attention]

    def _self_attention(self, width, causal):
        """`(layer, is_scaled)`: self-attention for inputs of `width` channels, and whether `init_gain` is applied."""
        if self._attention is None:
            rules = {"position": self.position, "window": self.window, "causal": causal}
            layer = self._multi_head_attention(width, {**rules, **(self.attention_options or {})})
            self._attention_call = SelfAttentionCall(layer)
            return layer, True
        settings = {"position": self.position, "causal": causal, "init_gain": self.init_gain}
        named = {"name": "attention", "dtype": self.dtype_policy}
        layer, self._attention_call, is_scaled = own_attention(self._attention, width, **settings, **named)
        return layer, is_scaled

    def _multi_head_attention(self, width, options):
        """An attention layer with the block's arguments, for inputs of `width` channels."""
        if self.key_dim is None and width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the {width} channels of the inputs, or `key_dim` must be given. "
                f"Received: num_heads={self.num_heads}"
            )
        key_dim = self.key_dim or width // self.num_heads
        own = {"num_kv_heads": self.num_kv_heads, "use_bias": self.use_attention_bias, "mechanism": self.mechanism}
        own |= {"dropout": self.attention_dropout, "seed": self._next_seed(), **options}
        if self.init_gain != 1:
            kernels = own.get("value_initializer") or own.get("kernel_initializer", "glorot_uniform")
            own["value_initializer"] = scaled(kernels, self.init_gain)
        return MultiHeadAttention(self.num_heads, key_dim, **own, dtype=self.dtype_policy, name="attention")

    def _network(self):
        """The feed-forward network, from the template or from the block's arguments."""
        template = self._feed_forward or Template(
            FeedForward(
                self.intermediate_dim,
                activation=self.activation,
                dropout=self.activation_dropout,
                seed=self._next_seed(),
            ),
            "feed_forward",
        )
        return template.new(name="network", dtype=self.dtype_policy)

    def _residual(self, name, layer, sublayer=None, **options):
        own = {"norm": norm_of(self.norm, sublayer or name), "dropout": self.dropout}
        own |= {"norm_layer": self.norm_layer, "norm_epsilon": self.norm_epsilon}
        own |= {"stochastic_depth": self.stochastic_depth, **(self.residual_options or {})}
        return Residual(layer, **{**own, **options}, seed=self._next_seed(), dtype=self.dtype_policy, name=name)

    def _side_by_side(self, attention, network):
        """Attention and network in parallel, with one norm or one each."""
        whole = {}
        if self.parallel == "two_norms":
            # Without its shortcut, a residual wrapper is a branch with its norm.
            branch = {"shortcut_scale": 0, "stochastic_depth": 0.0}
            attention = self._residual("self_attention", attention, **branch)
            network = self._residual("feed_forward", network, **branch)
            whole = {"norm": None, "dropout": 0.0}
        return self._residual(
            "side_by_side", Parallel(attention, network, dtype=self.dtype_policy, name="parallel"), **whole
        )

    def _next_seed(self):
        """A seed per sub-layer, so that they drop different numbers."""
        self._num_seeds += 2
        return None if self.seed is None else self.seed + self._num_seeds
