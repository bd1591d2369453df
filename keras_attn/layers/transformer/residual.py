"""Residual connection with normalisation, dropout and scales."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.normalization import normalization
from keras_attn.layers.transformer.branch import build_branch, call_branch
from keras_attn.layers.transformer.placement import placement
from keras_attn.ops.arrays import add
from keras_attn.typing import Nest, Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Residual(Configurable, keras.layers.Wrapper):
    """Wraps a layer in a residual connection with normalisation, dropout and scales.

    With `s` the `shortcut_scale`, `a` a trained number and `g` a trained vector with one number per channel:

    | `norm` | output |
    | --- | --- |
    | `"pre"` | `s x + dropout(layer(norm(x)))` |
    | `"post"` | `norm(s x + dropout(layer(x)))` |
    | `"sandwich"` | `s x + norm_2(dropout(layer(norm(x))))` |
    | `"res_post"` | `s x + norm(dropout(layer(x)))` |
    | `"deepnorm"` | as "post", and `s` must be given; `placement.deepnorm` has its value |
    | `"rezero"` | `s x + a dropout(layer(x))`, `a` initially 0 |
    | `"layerscale"` | `s x + g dropout(layer(norm(x)))`, `g` initially 1e-5 |
    | `None` | `s x + dropout(layer(x))` |

    Args:
        layer: The layer to wrap; its output must have the shape of its first input. If it returns a tuple, the residual
            connection applies to the first entry and the others are returned too. If it requires `value`, as
            `keras.layers.MultiHeadAttention` does, it gets the inputs as `value` unless there is a `memory`.
        norm: Placement of the norm, see the table.
        dropout: Dropout rate of the output of the layer.
        norm_epsilon: Added to the variance, or to the mean square.
        seed: Seed of the dropout.
        norm_layer: "layer" for layer normalisation, "layer_no_bias" for one without `beta`, "rms" for normalisation by
            the root mean square.
        stochastic_depth: Rate at which samples skip the layer in training; for the others its output is divided by
            `1 - rate`.
        shortcut_scale: Factor `s` of the shortcut. Defaults to 1; 0 removes the shortcut.
        gain: Initial value of the trained factor of "rezero" and "layerscale". Defaults to that in the table.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        memory: Optional second tensor for the layer, `(B, S, Dm)`.
        use_causal_mask: Optional bool, passed to the layer.
        **kwargs: Passed to the layer.

    Returns:
        Float `(B, T, D)`, or a tuple that begins with it.

    Raises:
        ValueError: If `norm` is unknown or lacks a required argument, or a rate is not in [0, 1).

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385); placements:
        [Xiong et al., 2020](https://arxiv.org/abs/2002.04745), [Ding et al., 2021](https://arxiv.org/abs/2105.13290),
        "res_post" [Liu et al., 2021](https://arxiv.org/abs/2111.09883),
        DeepNorm [Wang et al., 2022](https://arxiv.org/abs/2203.00555), ReZero
        [Bachlechner et al., 2020](https://arxiv.org/abs/2003.04887), LayerScale
        [Touvron et al., 2021](https://arxiv.org/abs/2103.17239); stochastic depth
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import FeedForward, Residual
    >>> tuple(Residual(FeedForward(64), norm="pre", dropout=0.1)(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    def __init__(
        self,
        layer: keras.Layer,
        norm: str | None = "pre",
        dropout: float = 0.0,
        norm_epsilon: float = 1e-6,
        seed: Seed | None = None,
        *,
        norm_layer: str = "layer",
        stochastic_depth: float = 0.0,
        shortcut_scale: float | None = None,
        gain: float | None = None,
        **kwargs: Any,
    ) -> None:
        place = placement(norm)
        if place.needs_shortcut_scale and shortcut_scale is None:
            raise ValueError(f"`shortcut_scale` must be given with norm={norm!r}. Received: shortcut_scale=None")
        if gain is not None and place.gain is None:
            raise ValueError(f"`gain` must be None with norm={norm!r}. Received: gain={gain}")
        for name, rate in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
            if not 0 <= rate < 1:
                raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={rate}")
        super().__init__(layer, **kwargs)
        self.supports_masking = True
        self.norm, self.norm_layer, self.norm_epsilon = norm, norm_layer, norm_epsilon
        self.dropout, self.stochastic_depth, self.seed = dropout, stochastic_depth, seed
        self.shortcut_scale, self._gain = shortcut_scale, gain
        self._placement = place
        self.norm_before = self._norm("norm_before") if place.before else None
        self.norm_branch = self._norm("norm_branch") if place.branch else None
        self.norm_after = self._norm("norm_after") if place.after else None
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy) if dropout else None
        self.depth_layer = None

    def _norm(self, name):
        return normalization(self.norm_layer, self.norm_epsilon, self.dtype_policy, name)

    def build(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> None:
        for norm in (self.norm_before, self.norm_branch, self.norm_after):
            if norm is not None:
                norm.build(inputs_shape)
        build_branch(self.layer, inputs_shape, memory_shape)
        if self._placement.gain is not None:
            self.gain = self.add_weight(
                name="gain",
                shape=inputs_shape[-1:] if self._placement.gain_per_channel else (),
                initializer=keras.initializers.Constant(self._placement.gain if self._gain is None else self._gain),
            )
        if self.stochastic_depth:
            # One random number per sample: the other axes of the noise have size one.
            self.depth_layer = keras.layers.Dropout(
                self.stochastic_depth,
                noise_shape=(None, *(1 for _ in inputs_shape[1:])),
                seed=None if self.seed is None else self.seed + 1,
                dtype=self.dtype_policy,
                name="stochastic_depth",
            )
        self.built = True

    def call(
        self,
        inputs: Tensor,
        memory: Nest | None = None,
        *,
        use_causal_mask: bool | None = None,
        training: bool | None = None,
        **kwargs: Any,
    ) -> Tensor | tuple[Nest, ...]:
        x = inputs if self.norm_before is None else self.norm_before(inputs)
        # Not in `kwargs`, since Keras rejects a bool among tensors.
        x, rest = call_branch(self.layer, x, memory, use_causal_mask, training=training, **kwargs)
        if len(x.shape) != len(inputs.shape) or len({x.shape[-1], inputs.shape[-1]} - {None}) > 1:
            raise ValueError(
                "`layer`, such as the `attention` or `feed_forward` of a block, must return the shape of its inputs. "
                f"Received: {type(self.layer).__name__} returned {tuple(x.shape)} for {tuple(inputs.shape)}"
            )
        if self.dropout_layer is not None:
            x = self.dropout_layer(x, training=training)
        if self.norm_branch is not None:
            x = self.norm_branch(x)
        if self._placement.gain is not None:
            x = ops.multiply(x, self.gain)
        if self.depth_layer is not None:
            x = self.depth_layer(x, training=training)
        if self.shortcut_scale != 0:
            scaled = self.shortcut_scale not in (None, 1)
            x = add(ops.multiply(inputs, self.shortcut_scale) if scaled else inputs, x)
        if self.norm_after is not None:
            x = self.norm_after(x)
        return (x, *rest) if rest else x

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> Shape:
        return tuple(inputs_shape)
