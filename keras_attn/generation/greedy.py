"""Greedy search."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras

from keras_attn.generation.single_sequence import SingleSequence
from keras_attn.generation.strategy import index_of_largest
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class Greedy(SingleSequence):
    """Greedy search: `y_t = argmax_y p(y | y_<t)`, the first of several equally likely tokens.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, Transformer
    >>> from keras_attn.generation import Greedy
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> model.generate(np.array([[5, 6, 7]]), config=GenerationConfig(4, strategy=Greedy())).shape
    (1, 4)
    """

    def choose(self, decoding: Decoding, drawing: Nest, logits: Tensor, step: Tensor) -> Tensor:
        return index_of_largest(logits)
