"""What callbacks have in common that count steps."""

from typing import Any

import keras


class StepCallback(keras.callbacks.Callback):
    """Knows the number of steps that the training has made, those before the checkpoint that it went on from included.

    Attributes:
        step: int, from 1 on once a batch has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step = self._before = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self.params.get("steps")
        # `fit` does not know the steps of a generator's epoch.
        self._before = epoch * steps if steps else self.step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step = self._before + batch + 1
