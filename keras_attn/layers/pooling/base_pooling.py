"""Base class of the pooling layers."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.shape_checks import check_mask, check_sequence
from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Shape, Tensor


class BasePooling(Configurable, keras.layers.Layer):
    """Base class of layers that pool a sequence `(B, T, D)` to a vector `(B, D)`. Subclasses override `pool`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def pool(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Pools float `(B, T, D)` with a bool mask `(B, T)`, or None, to `(B, D)`; zeros for fully padded rows."""
        raise NotImplementedError

    def build(self, inputs_shape: Shape) -> None:
        check_sequence("inputs", inputs_shape)

    def call(
        self, inputs: Tensor, inputs_mask: Tensor | None = None, mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        check_sequence("inputs", inputs.shape)
        mask = implicit_mask(inputs, inputs_mask, mask)
        check_mask("inputs_mask", mask, inputs.shape[:-1])
        return self.pool(inputs, boolean("inputs_mask", mask), **kwargs)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        return None

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return (inputs_shape[0], inputs_shape[-1])
