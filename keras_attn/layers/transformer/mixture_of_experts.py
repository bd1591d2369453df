"""Mixture of experts: a feed-forward network of many experts, a few of which each token uses."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.base.shape_checks import check_mask, check_sequence
from keras_attn.layers.transformer.feed_forward import FeedForward
from keras_attn.layers.transformer.gated_feed_forward import check_gate
from keras_attn.ops.arrays import add, reshape, reshape_as, shape_of
from keras_attn.ops.boolean_mask import boolean
from keras_attn.ops.expert_routing import expert_routing, load_balancing_loss, router_z_loss
from keras_attn.typing import Activation, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class MixtureOfExperts(FeedForward):
    """`sum_e w_e(x) expert_e(x)`, where `w(x)` is `softmax(x W_r)` with all but its `top_k` largest entries zero.

    Each expert is a `GatedFeedForward` (or, with `gated=False`, a `FeedForward`). No token is ever dropped, and the
    output for a token does not depend on other tokens. The router is always in float32, even in a quantised layer.

    All experts process all tokens, as three matrix products, and are then weighted: this runs under XLA and in every
    export format, and takes `num_experts / top_k` times the arithmetic of the chosen experts alone. Gathering the
    tokens of each expert instead would make shapes depend on data; with 8 experts, 2 chosen, widths 256 and 512, on two
    CPU cores, it took half the time of this layer for a training step on 1,024 tokens, and three times as long on 64.

    `enable_lora` and `quantize` apply to the kernels of all experts at once: `(D, num_experts, intermediate_dim)` and
    `(num_experts, intermediate_dim, D)`, but not to the router.

    In training the layer adds two losses. See `keras_attn.ops.load_balancing_loss` and `keras_attn.ops.router_z_loss`.

    Args:
        num_experts: Number `E` of experts.
        intermediate_dim: Inner width of each expert.
        output_dim: Width of the output. Defaults to that of the input.
        activation: Activation of the experts.
        top_k: Number of experts per token.
        gated: Whether the experts are gated.
        gate_limit, gated_offset: See `GatedFeedForward`; with `gated` only.
        normalize_weights: Whether to divide the `top_k` weights by their sum. With `top_k=1`, the router then only gets
            the gradients of its losses.
        load_balancing_loss: Factor of the loss that balances the use of the experts; 0 for none.
        router_z_loss: Factor of the loss that keeps the router's logits small; 0 for none.
        router_jitter: In training, multiplies the router's inputs by random numbers in `[1 - jitter, 1 + jitter]`.
        use_bias: Whether the projections of the experts have biases.
        use_router_bias: Whether the router has a bias.
        **kwargs: All other arguments of `FeedForward`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding, which returns zeros and is ignored by the losses.
            Defaults to the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.
        training: Whether to apply dropout, jitter and losses.

    Returns:
        Float `(B, T, output_dim)`.

    Raises:
        ValueError: If an argument or the shape of the mask is invalid; the message names it.

    Reference:
        [Shazeer et al., 2017](https://arxiv.org/abs/1701.06538); [Jiang et al., 2024](https://arxiv.org/abs/2401.04088)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import MixtureOfExperts
    >>> experts = MixtureOfExperts(num_experts=8, intermediate_dim=32, top_k=2)
    >>> tuple(experts(np.ones((2, 5, 16), "float32"), training=True).shape), len(experts.losses)
    ((2, 5, 16), 2)
    """

    def __init__(
        self,
        num_experts: int,
        intermediate_dim: int,
        output_dim: int | None = None,
        activation: Activation = "silu",
        *,
        top_k: int = 2,
        gated: bool = True,
        gate_limit: float | None = None,
        gated_offset: float = 0.0,
        normalize_weights: bool = True,
        load_balancing_loss: float = 0.01,
        router_z_loss: float = 0.001,
        router_jitter: float = 0.0,
        use_bias: bool = False,
        use_router_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        check_positive(num_experts=num_experts, top_k=top_k)
        if top_k > num_experts:
            raise ValueError(f"`top_k` must be at most num_experts={num_experts}. Received: top_k={top_k}")
        for name, value in (("load_balancing_loss", load_balancing_loss), ("router_z_loss", router_z_loss)):
            if value < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {name}={value}")
        if not 0 <= router_jitter < 1:
            raise ValueError(f"`router_jitter` must be in [0, 1). Received: router_jitter={router_jitter}")
        check_gate(gate_limit, gated_offset)
        if not gated and (gate_limit is not None or gated_offset):
            raise ValueError(
                "`gate_limit` and `gated_offset` must have their defaults with `gated=False`. "
                f"Received: gate_limit={gate_limit}, gated_offset={gated_offset}"
            )
        super().__init__(intermediate_dim, output_dim, activation, use_bias=use_bias, **kwargs)
        self.num_experts, self.top_k, self.gated = num_experts, top_k, gated
        self.gate_limit, self.gated_offset, self.use_router_bias = gate_limit, gated_offset, use_router_bias
        self.normalize_weights, self.load_balancing_loss = normalize_weights, load_balancing_loss
        self.router_z_loss, self.router_jitter = router_z_loss, router_jitter
        self.seed_generator = keras.random.SeedGenerator(self.seed) if router_jitter else None

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)
        # No `Projection`, since rounding to int8 or half precision would route tokens to other experts.
        self.router = self.add_weight(
            name="router",
            shape=(inputs_shape[-1], self.num_experts),
            initializer=cloned(self.kernel_initializer),
            autocast=False,
        )
        self.router_bias = None
        if self.use_router_bias:
            self.router_bias = self.add_weight(
                name="router_bias", shape=(self.num_experts,), initializer=self.bias_initializer, autocast=False
            )
        super().build(inputs_shape)

    def _expansion(self, name, input_width):
        width = (self.num_experts, self.intermediate_dim)
        projection = self._projection(name, "abc,cde->abde", (None, *width), "de", self._initializer(expert_axis=1))
        projection.build((None, None, input_width))
        return projection

    def _contraction(self, name, output_width):
        self.output_bias = None
        if self.use_bias:
            shape = (self.num_experts, output_width)
            self.output_bias = self.add_weight(name="output_bias", shape=shape, initializer=self.bias_initializer)
        projection = self._projection(name, "abde,dec->abc", (None, output_width), None, self._initializer(0))
        projection.build((None, None, self.num_experts, self.intermediate_dim))
        return projection

    def _initializer(self, expert_axis):
        """Initialises the kernel of each expert separately, since initializers scale by the shape."""
        given = self.kernel_initializer
        config = given.get_config() if isinstance(given, initializers.Initializer) else {}

        def draw(shape, dtype=None):
            shape = [size for axis, size in enumerate(shape) if axis != expert_axis]
            kernels = []
            for expert in range(self.num_experts):
                own = cloned(given)
                if isinstance(config.get("seed"), int):
                    # With a single seed, all experts would start with the same values.
                    own = type(given).from_config({**config, "seed": config["seed"] + expert})
                kernels.append(own(shape, dtype=dtype))
            return ops.stack(kernels, axis=expert_axis)

        return draw

    def call(
        self,
        inputs: Tensor,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        check_sequence("inputs", inputs.shape)
        mask = implicit_mask(inputs, inputs_mask, mask)
        check_mask("inputs_mask", mask, inputs.shape[:-1])
        if mask is not None:
            mask = boolean("inputs_mask", mask)
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, ops.zeros_like(inputs))
        weights = self._route(inputs, mask, training)
        x = ops.multiply(self._hidden(inputs), ops.expand_dims(ops.cast(weights, self.compute_dtype), -1))
        if self.dropout_layer is not None:
            x = self.dropout_layer(x, training=training)
        output = self.output_dense(x)
        if self.output_bias is None:
            return output
        bias = ops.matmul(weights, ops.cast(self.output_bias, weights.dtype))
        return add(output, ops.cast(bias, output.dtype))

    def _route(self, inputs, mask, training):
        """The weights of the experts, `(B, T, E)`."""
        if training and self.router_jitter:
            low, high = 1 - self.router_jitter, 1 + self.router_jitter
            noise = keras.random.uniform(shape_of(inputs), low, high, dtype=inputs.dtype, seed=self.seed_generator)
            inputs = ops.multiply(inputs, noise)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        flat = reshape(ops.cast(inputs, dtype), (-1, inputs.shape[-1]))
        logits = ops.matmul(flat, ops.cast(self.router, dtype))
        if self.router_bias is not None:
            logits = ops.add(logits, ops.cast(self.router_bias, dtype))
        logits = reshape_as(logits, inputs, 2, self.num_experts)
        weights, probabilities, chosen = expert_routing(logits, self.top_k, self.normalize_weights)
        if training and self.load_balancing_loss:
            self.add_loss(self.load_balancing_loss * load_balancing_loss(probabilities, chosen, mask))
        if training and self.router_z_loss:
            self.add_loss(self.router_z_loss * router_z_loss(logits, mask))
        if mask is None:
            return weights
        return ops.multiply(weights, ops.cast(ops.expand_dims(mask, -1), weights.dtype))
