"""Token type embedding."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.shape_checks import check_mask, check_sequence
from keras_attn.ops.arrays import add
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class TokenTypeEmbedding(Configurable, keras.layers.Layer):
    """Adds row `k` of a trained `(num_types, D)` table to the embedding of a token of type `k`.

    BERT marks its two segments this way.

    Args:
        num_types: Number of types.
        embeddings_initializer: Initializer of the table.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        types: Optional int32 `(B, T)`, below `num_types`. Defaults to type 0 for all tokens.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If `num_types` is not a positive integer, or a shape does not fit.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import TokenTypeEmbedding
    >>> x = np.ones((2, 3, 8), "float32")
    >>> tuple(TokenTypeEmbedding(2)(x, np.array([[0, 0, 1], [0, 1, 1]])).shape)
    (2, 3, 8)
    """

    def __init__(self, num_types: int, embeddings_initializer: Initializer = "glorot_uniform", **kwargs: Any) -> None:
        check_positive(num_types=num_types)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_types = num_types
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)
        self.type_embeddings = self.add_weight(
            name="type_embeddings", shape=(self.num_types, inputs_shape[-1]), initializer=self.embeddings_initializer
        )

    def call(self, inputs: Tensor, types: Tensor | None = None) -> Tensor:
        check_mask("types", types, inputs.shape[:2])
        vectors = self.type_embeddings[0] if types is None else ops.take(self.type_embeddings, types, axis=0)
        return add(inputs, ops.cast(vectors, inputs.dtype))

    def compute_output_shape(self, inputs_shape: Shape, types_shape: Shape | None = None) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs: Tensor, types: Tensor | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
