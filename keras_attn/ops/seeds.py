"""Seeds that repeat their random numbers, and seeds that advance from step to step of a loop."""

import keras
from keras import ops

from keras_attn import compat
from keras_attn.ops.arrays import add


class FixedSeed(keras.random.SeedGenerator):
    """A seed of fixed value, to be used as a Keras seed generator.

    Args:
        drawn: Integer tensor `(2,)`, the seed.
    """

    def __init__(self, drawn):
        # The base constructor would create a variable.
        self._drawn = drawn

    @classmethod
    def of(cls, seed):
        """Draws a seed from `seed`, an int or a `keras.random.SeedGenerator`."""
        return cls(keras.random.randint((2,), 0, 2**31 - 1, dtype="int32", seed=seed))

    def at(self, step):
        """The seed of one step of a loop."""
        first, second = ops.unstack(self._drawn)
        return FixedSeed(ops.stack([first, add(second, step)]))

    def next(self, ordered=True):
        return ops.cast(self._drawn, "uint32")


class LoopSeeds:
    """Advances the seeds of a loop from step to step, in a `keras.StatelessScope`.

    In the scope, seeds are tensors: updates in a loop's body are lost to the next step, which would draw the same
    numbers, and are no tensors outside of the loop. So each step computes its seeds from the number of earlier steps
    and from what the first step drew. The numbers are those of a loop outside of a scope. Create it before the first
    step, which is traced before the loop.
    """

    def __init__(self):
        self._scope = compat.current_stateless_scope()
        self._seen = {} if self._scope is None else dict(self._scope.state_mapping)
        self._drawn = None

    def first_is_done(self):
        """To be called between the first step and the loop."""
        if self._scope is not None:
            values = self._scope.state_mapping
            self._drawn = {
                key: (values[key], ops.subtract(values[key], seen))
                for key, seen in self._seen.items()
                if values[key] is not seen and _is_seed(seen)
            }

    def after(self, steps):
        """Sets the seeds to their values after `steps`, an int tensor or a number, besides the first."""
        for key, (value, drawn) in (self._drawn or {}).items():
            self._scope.state_mapping[key] = add(value, ops.multiply(ops.cast(steps, value.dtype), drawn))


def _is_seed(value):
    return "int" in keras.backend.standardize_dtype(value.dtype) and tuple(value.shape) == (2,)
