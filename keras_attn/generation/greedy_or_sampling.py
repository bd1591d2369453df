"""A strategy that chooses tokens as one of two others does."""

from keras_attn.generation.greedy import Greedy
from keras_attn.generation.sampling import Sampling
from keras_attn.generation.single_sequence import SingleSequence


class GreedyOrSampling(SingleSequence):
    """Base of strategies that find the logits of a token in a way of their own, and choose as `Greedy()` does or as
    `Sampling(seed)`. A subclass has the fields `sampling` and `seed`."""

    def __post_init__(self):
        Sampling(self.seed)

    @property
    def _choosing(self):
        return Sampling(self.seed) if self.sampling else Greedy()

    def rows(self, decoding, ids, mask):
        return self._choosing.rows(decoding, ids, mask)

    def choose(self, decoding, fixed, logits, step):
        return self._choosing.choose(decoding, fixed, logits, step)
