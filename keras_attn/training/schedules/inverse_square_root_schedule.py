"""The learning-rate schedule of the Transformer paper."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class InverseSquareRootSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """`scale * hidden_dim^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)`, with steps counted from 1.

    Increases linearly over `warmup_steps`, then decays with the inverse square root of the step.

    Args:
        hidden_dim: Model width.
        warmup_steps: Number of warm-up steps.
        scale: Factor applied to the schedule.

    Raises:
        ValueError: If an argument is not positive.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), equation 3

    Example:

    >>> from keras_attn.training import InverseSquareRootSchedule
    >>> schedule = InverseSquareRootSchedule(hidden_dim=512, warmup_steps=4000)
    >>> round(float(schedule(3999)), 6)
    0.000699
    """

    def __init__(self, hidden_dim: int, warmup_steps: int = 4000, scale: float = 1.0) -> None:
        for name, value in (("hidden_dim", hidden_dim), ("warmup_steps", warmup_steps), ("scale", scale)):
            if not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
        super().__init__()
        self.hidden_dim = hidden_dim
        self.warmup_steps = warmup_steps
        self.scale = scale

    def __call__(self, step: Tensor) -> Tensor:
        # Keras counts from 0, at which the formula gives a learning rate of 0.
        step = ops.cast(step, "float32") + 1.0
        rise = step * self.warmup_steps**-1.5
        return self.scale * self.hidden_dim**-0.5 * ops.minimum(ops.rsqrt(step), rise)

    def get_config(self) -> dict[str, Any]:
        return {"hidden_dim": self.hidden_dim, "warmup_steps": self.warmup_steps, "scale": self.scale}
