"""A learning-rate schedule with inverse square root decay."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_positive, check_positive_number
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class RsqrtDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`scale / sqrt(max(step, warmup_steps))`.

    The learning rate is constant for `warmup_steps`, then decays with the inverse square root of the step, as in
    OpenNMT-tf's schedule of this name and T5's pre-training. `InverseSquareRootSchedule` has a linear warm-up instead.

    Args:
        scale: The learning rate times the square root of the step.
        warmup_steps: Number of steps with a constant learning rate.

    Raises:
        ValueError: If an argument is not positive.

    Reference:
        [Raffel et al., 2019](https://arxiv.org/abs/1910.10683), section 3.1.2

    Example:

    >>> from keras_attn.training import RsqrtDecay
    >>> schedule = RsqrtDecay(scale=1.0, warmup_steps=100)
    >>> [round(float(schedule(step)), 4) for step in (0, 100, 400)]
    [0.1, 0.1, 0.05]
    """

    def __init__(self, scale: float, warmup_steps: int) -> None:
        check_positive_number(scale=scale)
        check_positive(warmup_steps=warmup_steps)
        super().__init__()
        self.scale = scale
        self.warmup_steps = warmup_steps

    def __call__(self, step: Tensor) -> Tensor:
        return self.scale * ops.rsqrt(ops.maximum(ops.cast(step, "float32"), float(self.warmup_steps)))

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "warmup_steps": self.warmup_steps}
