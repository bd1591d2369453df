"""Perplexity."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.training.losses.ignored_labels import IgnoredLabels
from keras_attn.training.losses.masked_cross_entropy import MaskedCrossEntropy
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Perplexity(IgnoredLabels, keras.metrics.Mean):
    """`exp` of the mean cross-entropy of real tokens. The mean is exact over any number of batches.

    Args:
        ignore_id: Label of tokens to ignore; None ignores no label. "auto" ignores the padding label that a `Trainer`
            or `compile` of this package's models provides (0 without them), and -100.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import Perplexity
    >>> round(float(Perplexity()(np.array([[1, 2, 0]]), np.zeros((1, 3, 5), "float32"))), 4)
    5.0
    """

    def __init__(self, ignore_id: int | str | None = "auto", name: str = "perplexity", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.set_ignore_id(ignore_id)
        self._loss = MaskedCrossEntropy(ignore_id=ignore_id)
        self._followers = (self._loss,)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Accumulates a batch; see `MaskedAccuracy.update_state`."""
        self.update_total(*self._loss.total(y_true, y_pred, sample_weight))

    def update_total(self, total: Tensor, weight: Tensor) -> None:
        """Accumulates the result of `total` or `linear_total` of a `MaskedCrossEntropy` for a batch."""
        self.total.assign_add(total)
        self.count.assign_add(weight)

    def result(self) -> Tensor:
        return ops.exp(super().result())
