"""Classification head for sequences or positions."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, initializers

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.base.normalization import normalization
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.base.shape_checks import check_sequence
from keras_attn.layers.base.template import Template
from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.typing import Activation, Initializer, Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ClassificationHead(Configurable, keras.layers.Layer):
    """`dropout(norm(activation(pooling(x) W_h + b_h))) W + b`, with a hidden layer only if `hidden_dim` is given.

    A norm is only applied if `norm_layer` is given. Without `pooling`, every position is classified: with two classes,
    start and end logits for question answering; with one, the discriminator of ELECTRA.

    Args:
        num_classes: Number of logits `C`.
        pooling: Optional pooling layer; the head uses a copy.
        hidden_dim: Optional width of a hidden layer.
        activation: Activation of the hidden layer.
        use_hidden_bias, use_bias: Whether there are the biases `b_h` and `b`.
        norm_layer: Optional "layer", "layer_no_bias" or "rms": the norm of the input of the last projection.
        norm_epsilon: Added to the variance, or to the mean square.
        dropout: Dropout rate of the input of the last projection.
        kernel_initializer: Initializer of the kernels.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Defaults to the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.
        training: Whether to apply dropout.

    Returns:
        Logits, float `(B, C)`; `(B, T, C)` without `pooling`.

    Raises:
        ValueError: If an argument or the rank of the inputs is invalid.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 4; the discriminator
        [Clark et al., 2020](https://arxiv.org/abs/2003.10555); a norm [Warner et al., 2024](https://arxiv.org/abs/2412.13663)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import ClassificationHead, MeanPooling
    >>> head = ClassificationHead(3, pooling=MeanPooling(), hidden_dim=16, activation="tanh")
    >>> tuple(head(np.ones((2, 5, 8), "float32")).shape)
    (2, 3)
    """

    def __init__(
        self,
        num_classes: int,
        pooling: BasePooling | None = None,
        hidden_dim: int | None = None,
        activation: Activation = "tanh",
        dropout: float = 0.0,
        kernel_initializer: Initializer = "glorot_uniform",
        seed: Seed | None = None,
        *,
        use_hidden_bias: bool = True,
        use_bias: bool = True,
        norm_layer: str | None = None,
        norm_epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        check_positive(num_classes=num_classes, hidden_dim=1 if hidden_dim is None else hidden_dim)
        pooling = deserialized(pooling)
        if not isinstance(pooling, BasePooling | None):
            raise ValueError(f"`pooling` must be a pooling layer or None. Received: pooling={pooling!r}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.use_hidden_bias, self.use_bias = use_hidden_bias, use_bias
        self.norm_layer, self.norm_epsilon = norm_layer, norm_epsilon
        self.norm = None
        if norm_layer is not None:
            self.norm = normalization(norm_layer, norm_epsilon, self.dtype_policy, "norm")
        self.num_classes, self.hidden_dim = num_classes, hidden_dim
        self._pooling = Template.of(pooling, "pooling")
        self.activation = activations.get(activation)
        self.dropout, self.seed = dropout, seed
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy, name="dropout")

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)
        shape = tuple(inputs_shape)
        self.pooling = None
        if self._pooling is not None:
            self.pooling = self._pooling.new(name="pooling", dtype=self.dtype_policy)
            self.pooling.build(shape)
            shape = (shape[0], shape[-1])
        self.hidden = None
        if self.hidden_dim is not None:
            self.hidden = self._dense(shape, self.hidden_dim, "hidden", self.activation, self.use_hidden_bias)
            shape = (*shape[:-1], self.hidden_dim)
        if self.norm is not None:
            self.norm.build(shape)
        self.classifier = self._dense(shape, self.num_classes, "classifier", use_bias=self.use_bias)

    def _dense(self, shape, width, name, activation=None, use_bias=True):
        equation = "ab,bc->ac" if len(shape) == 2 else "abc,cd->abd"
        layer = Projection(
            equation,
            (*[None] * (len(shape) - 2), width),
            bias_axes=equation[-1] if use_bias else None,
            activation=activation,
            kernel_initializer=cloned(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(shape)
        return layer

    def call(
        self,
        inputs: Tensor,
        inputs_mask: Tensor | None = None,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        check_sequence("inputs", inputs.shape)
        mask = implicit_mask(inputs, inputs_mask, mask)
        x = inputs if self.pooling is None else self.pooling(inputs, inputs_mask=mask)
        if self.hidden is not None:
            x = self.hidden(x)
        if self.norm is not None:
            x = self.norm(x)
        return self.classifier(self.dropout_layer(x, training=training))

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return mask if self._pooling is None else None

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return (*(inputs_shape[:-1] if self._pooling is None else inputs_shape[:1]), self.num_classes)
