"""A learning-rate schedule with a minimum."""

from __future__ import annotations

from typing import Any, Self

import keras
from keras import ops

from keras_attn.argument_checks import check_positive_number
from keras_attn.typing import Tensor

Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable(package="keras_attn")
class FlooredSchedule(Schedule):
    """`max(schedule(step), minimum_learning_rate)`.

    The minimum applies at every step, so a schedule with a warm-up from 0 starts at the minimum.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`.
        minimum_learning_rate: The smallest learning rate.

    Raises:
        ValueError: If `schedule` is not a schedule, or the minimum is not positive.

    Example:

    >>> from keras_attn.training import FlooredSchedule, RsqrtDecay
    >>> schedule = FlooredSchedule(RsqrtDecay(scale=1.0, warmup_steps=100), minimum_learning_rate=0.02)
    >>> [round(float(schedule(step)), 4) for step in (0, 400, 10_000)]
    [0.1, 0.05, 0.02]
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, minimum_learning_rate: float) -> None:
        if not isinstance(schedule, Schedule):
            raise ValueError(
                f"`schedule` must be a keras.optimizers.schedules.LearningRateSchedule. Received: schedule={schedule!r}"
            )
        check_positive_number(minimum_learning_rate=minimum_learning_rate)
        super().__init__()
        self.schedule = schedule
        self.minimum_learning_rate = minimum_learning_rate

    def __call__(self, step: Tensor) -> Tensor:
        return ops.maximum(self.schedule(step), self.minimum_learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "minimum_learning_rate": self.minimum_learning_rate,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config | {"schedule": keras.saving.deserialize_keras_object(config["schedule"])})
