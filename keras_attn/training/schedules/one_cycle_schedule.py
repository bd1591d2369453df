"""The one-cycle learning-rate schedule of super-convergence."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_positive, check_positive_number
from keras_attn.typing import Tensor

# The fraction of the change in learning rate after a fraction of the steps.
_ANNEALS = {"cos": lambda part: (1 - ops.cos(math.pi * part)) / 2, "linear": lambda part: part}


@keras.saving.register_keras_serializable(package="keras_attn")
class OneCycleSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Increases from `peak / div_factor` to the peak, then decreases to `peak / div_factor / final_div_factor`.

    Equals `torch.optim.lr_scheduler.OneCycleLR` with the same arguments, but does not change the momentum. The last
    rate is reached at step `total_steps - 1`, and kept.

    Args:
        peak_learning_rate: The largest learning rate.
        total_steps: Number of steps of the cycle.
        pct_start: Fraction of the steps with an increasing rate, above 0 and below 1.
        anneal: "cos" or "linear".
        div_factor: Ratio of the peak rate to the first rate.
        final_div_factor: Ratio of the first rate to the last rate.

    Raises:
        ValueError: If an argument is not as described.

    Reference:
        [Smith and Topin, 2017](https://arxiv.org/abs/1708.07120)

    Example:

    >>> from keras_attn.training import OneCycleSchedule
    >>> schedule = OneCycleSchedule(1.0, total_steps=11, pct_start=0.5)
    >>> [round(float(schedule(step)), 4) for step in (0, 1, 4, 5, 10)]
    [0.04, 0.1523, 0.9711, 0.9797, 0.0]
    """

    def __init__(
        self,
        peak_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        check_positive_number(
            peak_learning_rate=peak_learning_rate, div_factor=div_factor, final_div_factor=final_div_factor
        )
        check_positive(total_steps=total_steps)
        if not 0 < pct_start < 1:
            raise ValueError(f"`pct_start` must be above 0 and below 1. Received: pct_start={pct_start}")
        if anneal not in _ANNEALS:
            raise ValueError(f"`anneal` must be one of {list(_ANNEALS)}. Received: anneal={anneal!r}")
        super().__init__()
        self.peak_learning_rate = peak_learning_rate
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal = anneal
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        first = self.peak_learning_rate / self.div_factor
        top, end = self.pct_start * self.total_steps - 1, self.total_steps - 1

        def between(start, stop, rate, next_rate):
            # A phase may have no steps.
            part = ops.clip((step - start) / max(stop - start, 1e-7), 0.0, 1.0)
            return rate + (next_rate - rate) * _ANNEALS[self.anneal](part)

        rise = between(0.0, top, first, self.peak_learning_rate)
        return ops.where(step <= top, rise, between(top, end, self.peak_learning_rate, first / self.final_div_factor))

    def get_config(self) -> dict[str, Any]:
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "total_steps": self.total_steps,
            "pct_start": self.pct_start,
            "anneal": self.anneal,
            "div_factor": self.div_factor,
            "final_div_factor": self.final_div_factor,
        }
