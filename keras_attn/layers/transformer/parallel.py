"""Two layers on the same input, computed in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.transformer.branch import build_branch, call_branch
from keras_attn.ops.arrays import add
from keras_attn.typing import Nest, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Parallel(Configurable, keras.layers.Layer):
    """`first(x) + second(x)`: inside one `Residual`, attention and feed-forward network as in GPT-J and PaLM.

    Args:
        first: A layer, called with all arguments. If it returns a tuple, the further entries are returned too. If it
            requires `value`, it gets the inputs as `value`.
        second: A layer, called with the inputs and `second_arguments`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        second_arguments: Optional dict of call arguments for `second`.
        use_causal_mask: Optional bool, passed to `first`.
        **kwargs: Passed to `first`.

    Returns:
        Float `(B, T, D)`, or a tuple that begins with it.

    Reference:
        [Wang and Komatsuzaki, 2021](https://github.com/kingoflolz/mesh-transformer-jax),
        [Chowdhery et al., 2022](https://arxiv.org/abs/2204.02311), section 2

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import FeedForward, MultiHeadAttention, Parallel
    >>> both = Parallel(MultiHeadAttention(num_heads=2, key_dim=8), FeedForward(64))
    >>> tuple(both(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    def __init__(self, first: keras.Layer, second: keras.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.first, self.second = deserialized(first), deserialized(second)

    def build(self, inputs_shape: Shape) -> None:
        for layer in (self.first, self.second):
            build_branch(layer, inputs_shape)

    def call(
        self,
        inputs: Tensor,
        *,
        second_arguments: Mapping[str, Any] | None = None,
        use_causal_mask: bool | None = None,
        training: bool | None = None,
        **kwargs: Any,
    ) -> Tensor | tuple[Nest, ...]:
        x, rest = call_branch(self.first, inputs, None, use_causal_mask, training=training, **kwargs)
        x = add(x, self.second(inputs, training=training, **(second_arguments or {})))
        return (x, *rest) if rest else x

    def compute_output_shape(self, inputs_shape: Shape) -> Nest:
        try:
            return tuple(self.first.compute_output_shape(inputs_shape))
        except NotImplementedError:
            # For layers without `compute_output_shape`; inside a residual wrapper the shape is that of the inputs.
            return tuple(inputs_shape)
