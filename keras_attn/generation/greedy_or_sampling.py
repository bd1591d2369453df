"""A strategy that chooses tokens as one of two others does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_attn.generation.greedy import Greedy
from keras_attn.generation.sampling import Sampling
from keras_attn.generation.single_sequence import SingleSequence
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.strategy import Decoding


class GreedyOrSampling(SingleSequence):
    """Base of strategies that find the logits of a token in a way of their own, and choose as `Greedy()` does or as
    `Sampling(seed)`. A subclass has the fields `sampling` and `seed`."""

    def __post_init__(self):
        Sampling(self.seed)

    @property
    def _choosing(self):
        return Sampling(self.seed) if self.sampling else Greedy()

    def rows(self, decoding: Decoding, ids: Tensor, mask: Tensor | None) -> tuple[int, Nest]:
        return self._choosing.rows(decoding, ids, mask)

    def choose(self, decoding: Decoding, drawing: Nest, logits: Tensor, step: Tensor) -> Tensor:
        return self._choosing.choose(decoding, drawing, logits, step)
