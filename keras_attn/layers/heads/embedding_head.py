"""Embedding head: one vector per sequence."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, initializers

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.base.shape_checks import check_sequence
from keras_attn.layers.base.template import Template
from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.layers.pooling.mean_pooling import MeanPooling
from keras_attn.ops.pooling import normalized
from keras_attn.typing import Activation, Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class EmbeddingHead(Configurable, keras.layers.Layer):
    """`y / max(||y||, 1e-12)` with `y = activation(pooling(x) W + b)`: the vector of a sequence for similarities.

    Args:
        pooling: Pooling layer; the head uses a copy. Defaults to `MeanPooling()`.
        output_dim: Optional width of a projection `W`; without it, `y = pooling(x)`.
        activation: Activation of the projection.
        use_bias: Whether the projection has a bias.
        normalize: Whether to divide the vectors by their L2 norm.
        kernel_initializer: Initializer of the kernel.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Defaults to the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.

    Returns:
        Float `(B, output_dim)`, or `(B, D)`.

    Raises:
        ValueError: If an argument or the rank of the inputs is invalid.

    Reference:
        [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), section 3

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import EmbeddingHead
    >>> np.asarray(EmbeddingHead()(np.array([[[2.0, 3.0], [4.0, 5.0]]], "float32"))).round(1)
    array([[0.6, 0.8]], dtype=float32)
    """

    def __init__(
        self,
        pooling: BasePooling | None = None,
        output_dim: int | None = None,
        activation: Activation | None = None,
        use_bias: bool = True,
        normalize: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        check_positive(output_dim=1 if output_dim is None else output_dim)
        pooling = deserialized(pooling)
        if not isinstance(pooling, BasePooling | None):
            raise ValueError(f"`pooling` must be a pooling layer or None. Received: pooling={pooling!r}")
        if output_dim is None and activation is not None:
            raise ValueError(f"`activation` must be None without `output_dim`. Received: activation={activation!r}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self._pooling = Template.of(pooling or MeanPooling(), "pooling")
        self.output_dim, self.use_bias, self.normalize = output_dim, use_bias, normalize
        self.activation = None if activation is None else activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)
        self.pooling = self._pooling.new(name="pooling", dtype=self.dtype_policy)
        self.pooling.build(tuple(inputs_shape))
        self.projection = None
        if self.output_dim is not None:
            self.projection = Projection(
                "ab,bc->ac",
                (self.output_dim,),
                bias_axes="c" if self.use_bias else None,
                activation=self.activation,
                kernel_initializer=self.kernel_initializer,
                dtype=self.dtype_policy,
                name="projection",
            )
            self.projection.build((None, inputs_shape[-1]))

    def call(self, inputs: Tensor, inputs_mask: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        check_sequence("inputs", inputs.shape)
        x = self.pooling(inputs, inputs_mask=implicit_mask(inputs, inputs_mask, mask))
        if self.projection is not None:
            x = self.projection(x)
        return normalized(x) if self.normalize else x

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        return None

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return (inputs_shape[0], self.output_dim or inputs_shape[-1])
