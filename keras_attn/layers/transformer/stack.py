"""Base class of `Encoder` and `Decoder`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_attn.argument_checks import check_layers, is_count
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.normalization import normalization
from keras_attn.layers.base.serialization import deserialized, serialized
from keras_attn.layers.base.template import Template
from keras_attn.layers.transformer.block import TEMPLATES, Block
from keras_attn.layers.transformer.placement import deepnorm, norm_of, placement
from keras_attn.typing import Nest, Shape

_LAYER_ARGUMENTS = ("name", "dtype", "trainable", "autocast", "activity_regularizer")
_DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(Block).parameters.items()}


class Stack(Configurable, keras.layers.Layer):
    """`num_layers` blocks of one class. See `Encoder` for the arguments."""

    block_class = None

    def __init__(
        self,
        num_layers: int,
        num_heads: int | None = None,
        intermediate_dim: int | None = None,
        *,
        share_weights: bool | Sequence[int] = False,
        final_norm: bool | None = None,
        layer_options: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        check_layers(num_layers)
        order = _block_order(num_layers, share_weights)
        layer_options = [with_templates(entry) for entry in layer_options or ()]
        if share_weights and layer_options:
            raise ValueError(
                f"`layer_options` must be None with `share_weights`. Received: layer_options={layer_options}"
            )
        if len(layer_options) > num_layers:
            raise ValueError(
                f"`layer_options` must have at most an entry for each of {num_layers} layers. "
                f"Received: {len(layer_options)} entries"
            )
        super().__init__(**{name: options.pop(name) for name in _LAYER_ARGUMENTS if name in options})
        self.supports_masking = True
        self.num_layers = num_layers
        self.share_weights = share_weights if isinstance(share_weights, bool) else tuple(share_weights)
        self.order = order
        options = {**with_templates(options), "num_heads": num_heads, "intermediate_dim": intermediate_dim}
        self.block_options, self.layer_options = options, layer_options or None
        self._final_norm = final_norm
        self.blocks = [
            self.block_class(
                **self._options(i, options, layer_options),
                dtype=self.dtype_policy,
                name=f"{type(self).__name__.lower()}_{i}",
            )
            for i in range(max(self.order) + 1)
        ]
        self.final_norm = None
        last_norm = norm_of(options.get("norm", _DEFAULTS["norm"]), "feed_forward")
        if placement(last_norm).final_norm if final_norm is None else final_norm:
            self.final_norm = norm_like(options, self.dtype_policy, "final_norm")

    def _options(self, index, options, layer_options):
        """The arguments of one block."""
        own = dict(options)
        if own.get("norm") == "deepnorm":
            constants = self._deepnorm()
            own = constants | own
            own["residual_options"] = constants["residual_options"] | (own["residual_options"] or {})
        if not self.share_weights:
            own["stochastic_depth"] = own.get("stochastic_depth", 0.0) * (index + 1) / self.num_layers
        if own.get("seed") is not None:
            own["seed"] += 100 * index
        return own | (layer_options[index % len(layer_options)] if layer_options else {})

    def _deepnorm(self):
        return deepnorm(encoder_layers=self.num_layers)[0]

    @property
    def layers(self) -> list[keras.Layer]:
        """The block of each of the `num_layers` layers; several have the same with `share_weights`."""
        return [self.blocks[i] for i in self.order]

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> Shape:
        return tuple(inputs_shape)

    def _build(self, inputs_shape, *memory_shape):
        for block in self.blocks:
            block.build(inputs_shape, *memory_shape)
        if self.final_norm is not None:
            self.final_norm.build(inputs_shape)

    def _finish(self, x):
        return x if self.final_norm is None else self.final_norm(x)

    def get_config(self) -> dict[str, Any]:
        own = {"num_layers": self.num_layers, "share_weights": self.share_weights, "final_norm": self._final_norm}
        own["layer_options"] = self.layer_options
        return {**super().get_config(), **serialized(own | self.block_options)}


def _block_order(num_layers, share_weights):
    """The number of the block of each layer; raises a ValueError if `share_weights` is invalid."""
    if isinstance(share_weights, bool):
        return (0,) * num_layers if share_weights else tuple(range(num_layers))
    numbers = set(share_weights) if isinstance(share_weights, list | tuple) else {None}
    if not all(map(is_count, numbers)) or len(share_weights) != num_layers or numbers != set(range(len(numbers))):
        raise ValueError(
            f"`share_weights` must be a bool, or a list of the block of each of {num_layers} layers, of which all from "
            f"0 to the last occur. Received: share_weights={share_weights!r}"
        )
    return tuple(share_weights)


def stacks_of(model):
    """The encoder and the decoder of a model by name, as far as it has them."""
    found = {name: getattr(model, name, None) for name in ("encoder", "decoder")}
    return {name: stack for name, stack in found.items() if isinstance(stack, Stack)}


def norm_like(options, dtype, name):
    """A norm of the kind of those in blocks with these arguments."""
    own = {**_DEFAULTS, **options}
    return normalization(own["norm_layer"], own["norm_epsilon"], dtype, name)


def with_templates(options):
    """Deserialises arguments of blocks, with layers as templates, which Keras does not track."""
    options = {name: deserialized(value) for name, value in options.items()}
    return options | {name: Template.of(options[name], name) for name in (*TEMPLATES, "convolution") if name in options}
