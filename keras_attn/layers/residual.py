"""Where a sub-layer's norm, dropout and shortcut go."""

import keras
from keras import ops

from keras_attn.layers.configurable import Configurable


@keras.saving.register_keras_serializable(package="keras_attn")
class Residual(Configurable, keras.layers.Wrapper):
    """Wraps a layer in a shortcut, with layer normalisation and dropout round it.

    | `norm` | output |
    | --- | --- |
    | `"pre"` | `x + dropout(layer(norm(x)))` |
    | `"post"` | `norm(x + dropout(layer(x)))` |
    | `"sandwich"` | `x + norm_2(dropout(layer(norm(x))))` |
    | `None` | `x + dropout(layer(x))` |

    Args:
        layer: the layer to wrap; its output must have the shape of its first input. Where it returns a tuple, the
            shortcut is round the first entry and the rest is passed on.
        norm: placement of the norm, see the table.
        dropout: rate at which the layer's output is dropped in training.
        norm_epsilon: added to the variance.
        seed: seed of the dropout.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(B, T, D)`.
        memory: optional second tensor for the layer, `(B, S, Dm)`.
        **kwargs: passed on to the layer.

    Returns:
        Float `(B, T, D)`, or a tuple that begins with it.

    Raises:
        ValueError: `norm` is none of the placements.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385); placements:
        [Xiong et al., 2020](https://arxiv.org/abs/2002.04745), [Ding et al., 2021](https://arxiv.org/abs/2105.13290)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import FeedForward, Residual
    >>> tuple(Residual(FeedForward(64), norm="pre", dropout=0.1)(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    def __init__(self, layer, norm="pre", dropout=0.0, norm_epsilon=1e-6, seed=None, **kwargs):
        if norm not in ("pre", "post", "sandwich", None):
            raise ValueError(f"`norm` must be 'pre', 'post', 'sandwich' or None. Received: norm={norm!r}")
        super().__init__(layer, **kwargs)
        self.supports_masking = True
        self.norm = norm
        self.dropout = dropout
        self.norm_epsilon = norm_epsilon
        self.seed = seed
        self.norm_before = self._norm_layer("norm_before") if norm in ("pre", "sandwich") else None
        self.norm_after = self._norm_layer("norm_after") if norm in ("post", "sandwich") else None
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy) if dropout else None

    def _norm_layer(self, name):
        return keras.layers.LayerNormalization(epsilon=self.norm_epsilon, dtype=self.dtype_policy, name=name)

    def build(self, inputs_shape, memory_shape=None):
        for norm in (self.norm_before, self.norm_after):
            if norm is not None:
                norm.build(inputs_shape)
        if not self.layer.built:
            self.layer.build(inputs_shape, *([] if memory_shape is None else [memory_shape]))
        self.built = True

    def call(self, inputs, memory=None, *, training=None, **kwargs):
        x = inputs if self.norm_before is None else self.norm_before(inputs)
        x = self.layer(x, *([] if memory is None else [memory]), training=training, **kwargs)
        x, *rest = x if isinstance(x, tuple) else (x,)
        if self.dropout_layer is not None:
            x = self.dropout_layer(x, training=training)
        if self.norm == "sandwich":
            x = self.norm_after(x)
        x = ops.add(inputs, x)
        if self.norm == "post":
            x = self.norm_after(x)
        return (x, *rest) if rest else x

    def compute_output_shape(self, inputs_shape, memory_shape=None):
        return inputs_shape
