"""`trainable` of one layer, apart from that of its sub-layers."""

from keras_attn import compat


class Freezable:
    """Remembers that `trainable` was set, and leaves the weights under LoRA frozen. Comes before the Keras class."""

    # Whether somebody has set `trainable` since the constructor.
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
        """Drops what was to be set later: what is said last counts."""


def set_own_trainable(layer, value):
    """Sets `trainable` of a layer and its own weights, not of its sub-layers. Weights under LoRA stay frozen."""
    if "_made_trainable" not in vars(layer):
        compat.set_untracked(layer, "_made_trainable", compat.own_trainable(layer))
    compat.set_own_trainable(layer, value)
