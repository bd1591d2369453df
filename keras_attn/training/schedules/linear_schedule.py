"""A linear learning-rate schedule with warm-up."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_positive, check_positive_number
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class LinearSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Increases linearly from 0 to `peak_learning_rate`, then decreases linearly to `final_learning_rate`.

    The warm-up takes `warmup_steps`. The final rate is reached at step `total_steps`, and kept.

    Args:
        peak_learning_rate: The largest learning rate.
        total_steps: Total number of steps, warm-up included.
        warmup_steps: Number of warm-up steps. If 0, the first step has the peak rate.
        final_learning_rate: The learning rate from step `total_steps` on.

    Raises:
        ValueError: If an argument is not as described, or `warmup_steps` is not below `total_steps`.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), appendix A.2

    Example:

    >>> from keras_attn.training import LinearSchedule
    >>> schedule = LinearSchedule(1e-3, total_steps=1000, warmup_steps=100)
    >>> [round(float(schedule(step)), 6) for step in (0, 50, 100, 550, 1000)]
    [0.0, 0.0005, 0.001, 0.0005, 0.0]
    """

    def __init__(
        self, peak_learning_rate: float, total_steps: int, warmup_steps: int = 0, final_learning_rate: float = 0.0
    ) -> None:
        check_positive_number(peak_learning_rate=peak_learning_rate)
        check_positive(total_steps=total_steps)
        check_count(warmup_steps=warmup_steps)
        if warmup_steps >= total_steps:
            raise ValueError(
                f"`warmup_steps` must be below `total_steps`. Received: {warmup_steps} of {total_steps} steps"
            )
        if not 0 <= final_learning_rate <= peak_learning_rate:
            raise ValueError(
                "`final_learning_rate` must be between 0 and `peak_learning_rate`. "
                f"Received: final_learning_rate={final_learning_rate}"
            )
        super().__init__()
        self.peak_learning_rate = peak_learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.final_learning_rate = final_learning_rate

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        rise = step / max(self.warmup_steps, 1)
        fall = ops.clip((self.total_steps - step) / (self.total_steps - self.warmup_steps), 0.0, 1.0)
        floor = self.final_learning_rate
        return ops.where(
            step < self.warmup_steps,
            self.peak_learning_rate * rise,
            floor + (self.peak_learning_rate - floor) * fall,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "final_learning_rate": self.final_learning_rate,
        }
