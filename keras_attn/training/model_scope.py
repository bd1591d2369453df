"""A scope in which only the variables of a model may change."""

import keras


class ModelScope(keras.StatelessScope):
    """A `keras.StatelessScope` that collects added losses, and refuses changes of variables outside `model`.

    Such changes would be lost: a teacher's state, or that of a random generator, which would then draw the same numbers
    at each step.

    Args:
        model: `keras.Model`.
        states: Pairs of variables and their values in the scope.
    """

    def __init__(self, model, states=()):
        super().__init__(states, collect_losses=True)
        self._known = {id(variable) for variable in model.variables}

    def add_update(self, update):
        if id(update[0]) not in self._known:
            raise ValueError(
                "`compute_loss` must change no variables but those of `model`: call other models with training=False, "
                f"and make random generators attributes of the model. Received: a change of {update[0].path!r}"
            )
        super().add_update(update)
