"""Base class of strategies that select tokens greedily or by sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_attn.generation.greedy import Greedy
from keras_attn.generation.sampling import Sampling
from keras_attn.generation.single_sequence import SingleSequence
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding


class GreedyOrSampling(SingleSequence):
    """Base class of strategies that compute logits in their own way, and select tokens like `Greedy` or `Sampling`.

    Subclasses have the fields `sampling` and `seed`.
    """

    def __post_init__(self):
        Sampling(self.seed)

    @property
    def _selector(self):
        return Sampling(self.seed) if self.sampling else Greedy()

    def rows(self, decoding: Decoding, inputs: Tensor, mask: Tensor | None) -> tuple[int, Nest]:
        return self._selector.rows(decoding, inputs, mask)

    def choose(self, decoding: Decoding, drawing: Nest, logits: Tensor, step: Tensor) -> Tensor:
        return self._selector.choose(decoding, drawing, logits, step)
