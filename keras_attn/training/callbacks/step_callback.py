"""Base class of callbacks that count steps."""

from typing import Any

import keras


class StepCallback(keras.callbacks.Callback):
    """Counts the steps of a training run, including those before the checkpoint that it resumed from.

    Attributes:
        step: Number of completed steps.
        checkpointed: Names of the attributes that checkpoints of a `Trainer` hold: numbers, dicts of numbers, or lists
            of arrays.
    """

    checkpointed: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.step = self._before = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self.params.get("steps")
        # `fit` does not know the number of steps per epoch of a generator.
        self._before = epoch * steps if steps else self.step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step = self._before + batch + 1
