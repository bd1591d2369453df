"""Accuracy over real tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn import compat
from keras_attn.training.losses.entries import entry_weights, real_tokens, token_labels
from keras_attn.training.losses.ignored_labels import IgnoredLabels
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class MaskedAccuracy(IgnoredLabels, keras.metrics.Mean):
    """Fraction of real tokens whose label has the largest logit. The mean is exact over any number of batches.

    Args:
        ignore_id: Label of tokens to ignore; None ignores no label. "auto" ignores the padding label that a `Trainer`
            or `compile` of this package's models provides (0 without them), and -100.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import MaskedAccuracy
    >>> metric = MaskedAccuracy()
    >>> float(metric(np.array([[1, 2, 0]]), np.eye(3)[None, [1, 1, 0]]))
    0.5
    """

    def __init__(self, ignore_id: int | str | None = "auto", name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.set_ignore_id(ignore_id)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Accumulates a batch.

        Args:
            y_true: Integer labels `(B, T)` or `(B,)`; a trailing axis of size 1 is allowed.
            y_pred: Float logits `(B, T, V)` or `(B, V)`. Positions that their Keras mask hides are ignored.
            sample_weight: Optional float weights, one per row or label.
        """
        mask, y_pred = compat.keras_mask(y_pred), ops.convert_to_tensor(y_pred)
        labels = ops.cast(token_labels(y_true, y_pred), "int32")
        weights = entry_weights(real_tokens(labels, self.ignored_labels), sample_weight, mask)
        hits = ops.equal(labels, ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        # Keras' own mean would weight each token by the length of its batch.
        self.total.assign_add(ops.cast(ops.sum(ops.cast(hits, "float32") * weights), self.dtype))
        self.count.assign_add(ops.cast(ops.sum(weights), self.dtype))
