"""Sampling."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.generation.generative_model import reads_ids
from keras_attn.generation.processors.selection import unless_banned
from keras_attn.generation.sequence_state import SequenceContext, SequenceState
from keras_attn.generation.single_sequence import SingleSequence
from keras_attn.generation.strategy import index_of_largest
from keras_attn.ops.arrays import add, axis_size, reshape
from keras_attn.ops.hashed_uniform import checksums, hashed_uniform, row_keys
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class Sampling(SingleSequence):
    """Sampling: `y_t ~ p(y | y_<t)`, after the config's processors, such as `Temperature` and `TopP`.

    Drawn as `argmax_y log p(y) + g_y` with Gumbel noise `g`, a function of the seed, the step and the row's own inputs:
    a row's samples do not depend on the rest of the batch, and are the same in every exported artefact.

    Args:
        seed: Integer; the same seed draws the same samples.
        num_sequences: Number of samples per row.

    Raises:
        ValueError: If an argument is invalid.

    Reference:
        [A* Sampling](https://arxiv.org/abs/1411.0030), Maddison et al., 2014.

    Example:

    >>> import numpy as np
    >>> from keras_attn import GenerationConfig, Transformer
    >>> from keras_attn.generation import Sampling, Temperature, TopK
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> config = GenerationConfig(4, strategy=Sampling(7, num_sequences=3), processors=(Temperature(0.8), TopK(10)))
    >>> model.generate(np.array([[5, 6, 7]]), config=config).shape
    (1, 3, 4)
    """

    seed: int = 0
    num_sequences: int = 1

    def __post_init__(self):
        check_positive(num_sequences=self.num_sequences)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise ValueError(f"`seed` must be an integer in 0 to 2**31 - 1. Received: seed={self.seed!r}")

    def rows(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[int, Nest]:
        real = decoding.model.padding_mask(inputs, mask)
        count = self.num_sequences
        keys = row_keys(inputs if reads_ids(decoding.model) else checksums(inputs), real)
        keys = tuple(ops.repeat(key, count) for key in keys) if count > 1 else keys
        if count > 1:
            number = ops.mod(ops.arange(axis_size(keys[0], 0), dtype="int32"), count)
            keys = tuple(add(key, number * factor) for key, factor in zip(keys, (7919, 6947), strict=True))
        seed = ops.convert_to_tensor(self.seed, dtype="int32") if decoding.seed is None else decoding.seed
        return count, (*keys, seed)

    def choose(self, decoding: Decoding, drawing: Nest, logits: Tensor, step: Tensor) -> Tensor:
        *keys, seed = drawing
        uniform = hashed_uniform(keys, step, seed, logits.shape[-1])
        # Relative to the largest logit: noise would be lost in the rounding of a large one.
        logits = unless_banned(logits, ops.subtract(logits, ops.max(logits, axis=-1, keepdims=True)))
        return index_of_largest(ops.subtract(logits, ops.log(ops.negative(ops.log(uniform)))))

    def result(self, decoding: Decoding, fixed: SequenceContext, state: SequenceState) -> dict[str, Tensor]:
        outputs = super().result(decoding, fixed, state)
        if self.num_sequences == 1:
            return outputs
        return {name: unfolded(value, self.num_sequences) for name, value in outputs.items()}


def unfolded(x, count):
    """Reshapes `(B * count, ...)` to `(B, count, ...)`."""
    return reshape(x, (-1, count, *x.shape[1:]))
