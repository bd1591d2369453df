"""`trainable` of a layer, independent of its sub-layers."""

from keras_attn import compat


class Freezable:
    """Records that `trainable` was set, and keeps weights under LoRA frozen. Must precede the Keras class."""

    # Whether `trainable` was set after the constructor.
    _trainable_was_set = False

    @property
    def trainable(self) -> bool:
        return compat.own_trainable(self)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable_was_set = True
        set_own_trainable(self, bool(value))
        for layer in compat.sublayers_of(self):
            layer.trainable = value
        self._forget_trainable()

    def _forget_trainable(self):
        """Drops pending states: the last assignment wins."""


def set_own_trainable(layer, value):
    """Sets `trainable` of a layer and its own weights, but not of its sub-layers. Weights under LoRA stay frozen."""
    if "_made_trainable" not in vars(layer):
        compat.set_untracked(layer, "_made_trainable", compat.own_trainable(layer))
    compat.set_own_trainable(layer, value)
