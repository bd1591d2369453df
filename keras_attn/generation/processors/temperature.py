"""How much chance has a say."""

import dataclasses

import keras
from keras import ops

from keras_attn.argument_checks import check_positive_number
from keras_attn.generation.processors.logit_processor import BANNED, LogitProcessor


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class Temperature(LogitProcessor):
    """Divides the logits.

    Args:
        value: a number; below 1 likely tokens become more likely, above 1 less.

    Raises:
        ValueError: `value` is not a positive number.

    Example:

    >>> import numpy as np
    >>> from keras_attn.generation import Temperature
    >>> np.asarray(Temperature(2.0)(np.array([[1.0, 3.0]], "float32"), (), 0))
    array([[0.5, 1.5]], dtype=float32)
    """

    value: float

    def __post_init__(self):
        check_positive_number(value=self.value)

    def __call__(self, logits, state, step):
        # A banned token stays so, to the digit.
        return ops.where(ops.greater(logits, BANNED), logits / float(self.value), BANNED)
