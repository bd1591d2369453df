"""Temperature."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_attn.argument_checks import check_positive_number
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor
from keras_attn.generation.processors.selection import bounded, in_float32, unless_banned
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class Temperature(LogitProcessor):
    """Divides the logits by a temperature.

    If the largest quotient of a row exceeds the float32 range, quotients are computed relative to it, so a value near 0
    is greedy.

    Args:
        value: A number; below 1 it makes likely tokens more likely, above 1 less likely.

    Raises:
        ValueError: If `value` is not a positive number.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import Temperature
    >>> np.asarray(Temperature(2.0)(np.array([[1.0, 3.0]], "float32"), (), 0))
    array([[0.5, 1.5]], dtype=float32)
    """

    value: float

    def __post_init__(self):
        check_positive_number(value=self.value)

    def graph_numbers(self) -> dict[str, float]:
        return {"value": in_float32(self.value)}

    def __call__(self, logits: Tensor, state: tuple[Tensor, ...], step: Tensor) -> Tensor:
        value = self.number("value")
        is_input = ops.is_tensor(value)
        if not is_input and value >= 1:
            return unless_banned(logits, ops.divide(logits, value))
        half, largest = BANNED / 2, ops.max(logits, axis=-1, keepdims=True)
        least = ops.min(ops.where(ops.greater(logits, BANNED), logits, largest), axis=-1, keepdims=True)
        start = ops.where(ops.greater(ops.abs(largest), -half * value), largest, 0.0)
        quotients = bounded(ops.divide(bounded(ops.subtract(logits, start)), value))
        # Values outside half of the float32 range keep their order in the other half.
        span = ops.maximum(ops.subtract(largest / 2, least / 2), in_float32(1e-45))
        order = bounded(ops.divide(ops.subtract(largest / 2, logits / 2), span))
        quotients = ops.where(ops.less(quotients, half), bounded(half + half * order), quotients)
        if is_input:
            quotients = ops.where(ops.greater_equal(value, 1.0), ops.divide(logits, value), quotients)
        return unless_banned(logits, quotients)
