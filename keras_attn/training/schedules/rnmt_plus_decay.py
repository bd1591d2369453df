"""The learning-rate schedule of RNMT+."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_positive, check_positive_number
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class RNMTPlusDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`scale * min(1 + t (n - 1) / (n p), n, n (2n)^((s - n t) / (e - s)))` at step `t`.

    With `n` replicas, the learning rate increases linearly from `scale` to `n scale` over `n p` steps, is constant
    until step `s / n`, and then decays exponentially. Wrap it in a `FlooredSchedule` to set a minimum.

    Args:
        scale: The first learning rate.
        num_replicas: `n`, the number of replicas.
        warmup_steps: `p`, the number of warm-up steps per replica.
        start_step: `s`, the step at which the decay would start on a single replica.
        end_step: `e`, the step at which the rate would reach `scale / 2` on a single replica.

    Raises:
        ValueError: If an argument is not positive, or `start_step` is not below `end_step`.

    Reference:
        [Chen et al., 2018](https://arxiv.org/abs/1804.09849), equation 1

    Example:

    >>> from keras_attn.training import RNMTPlusDecay
    >>> schedule = RNMTPlusDecay(1e-4, num_replicas=4, warmup_steps=50, start_step=4000, end_step=8000)
    >>> [round(float(schedule(step)), 6) for step in (0, 100, 200, 1000, 2000)]
    [0.0001, 0.00025, 0.0004, 0.0004, 5e-05]
    """

    def __init__(
        self,
        scale: float,
        num_replicas: int,
        warmup_steps: int = 500,
        start_step: int = 600_000,
        end_step: int = 1_200_000,
    ) -> None:
        check_positive_number(scale=scale)
        check_positive(num_replicas=num_replicas, warmup_steps=warmup_steps, end_step=end_step)
        check_count(start_step=start_step)
        if start_step >= end_step:
            raise ValueError(f"`start_step` must be below `end_step`, {end_step}. Received: start_step={start_step}")
        super().__init__()
        self.scale = scale
        self.num_replicas = num_replicas
        self.warmup_steps = warmup_steps
        self.start_step = start_step
        self.end_step = end_step

    def __call__(self, step: Tensor) -> Tensor:
        step, count = ops.cast(step, "float32"), float(self.num_replicas)
        rise = 1.0 + step * ((count - 1.0) / (count * self.warmup_steps))
        fall = count * ops.power(2.0 * count, (self.start_step - count * step) / (self.end_step - self.start_step))
        return self.scale * ops.minimum(ops.minimum(rise, count), fall)

    def get_config(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "num_replicas": self.num_replicas,
            "warmup_steps": self.warmup_steps,
            "start_step": self.start_step,
            "end_step": self.end_step,
        }
