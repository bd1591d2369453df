"""Seeds that give the same random numbers again."""

import keras
from keras import ops

from keras_attn.ops.sums import add


class DrawnSeed(keras.random.SeedGenerator):
    """A seed that was drawn already, for where Keras takes a generator.

    Args:
        drawn: integer tensor `(2,)`.
    """

    def __init__(self, drawn):
        # Not the base's own: that makes a variable.
        self._drawn = drawn

    @classmethod
    def of(cls, seed):
        """Draws from `seed`, an int or a `keras.random.SeedGenerator`."""
        return cls(keras.random.randint((2,), 0, 2**31 - 1, dtype="int32", seed=seed))

    def at(self, step):
        """The seed of one step of a loop."""
        first, second = ops.unstack(self._drawn)
        return DrawnSeed(ops.stack([first, add(second, step)]))

    def next(self, ordered=True):
        return ops.cast(self._drawn, "uint32")
