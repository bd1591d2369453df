"""Seeds that give the same random numbers again, and seeds that go on from step to step of a loop."""

import keras
from keras import ops

from keras_attn import compat
from keras_attn.ops.arrays import add


class FixedSeed(keras.random.SeedGenerator):
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
        return FixedSeed(ops.stack([first, add(second, step)]))

    def next(self, ordered=True):
        return ops.cast(self._drawn, "uint32")


class LoopSeeds:
    """Goes on with the seeds of a loop from step to step, in a `keras.StatelessScope`.

    There, seeds are tensors that the scope keeps: what a loop's body writes is lost to its next step, which would draw
    the same numbers, and is no tensor outside of the loop. So each step is told where its seeds begin, which follows
    from what the first one drew. The numbers are those that a loop outside of a scope draws. Make one before the first
    step, which is traced before the loop.
    """

    def __init__(self):
        self._scope = compat.current_stateless_scope()
        self._seen = {} if self._scope is None else dict(self._scope.state_mapping)
        self._drawn = None

    def first_is_done(self):
        """Call it between the first step and the loop."""
        if self._scope is not None:
            values = self._scope.state_mapping
            self._drawn = {
                key: (values[key], ops.subtract(values[key], seen))
                for key, seen in self._seen.items()
                if values[key] is not seen and _is_seed(seen)
            }

    def after(self, steps):
        """Puts the seeds where they are after so many steps beside the first; an int tensor, or a number."""
        for key, (value, drawn) in (self._drawn or {}).items():
            self._scope.state_mapping[key] = add(value, ops.multiply(ops.cast(steps, value.dtype), drawn))


def _is_seed(value):
    return "int" in keras.backend.standardize_dtype(value.dtype) and tuple(value.shape) == (2,)
