"""How often the likeliest token is the right one."""

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
    """Share of real tokens whose label has the largest logit; an exact mean over any number of batches.

    Args:
        ignore_id: label of tokens that do not count; None counts all. "auto" is the label of padding, as the `Trainer`
            and `compile` of this package's models know it, 0 without them, and -100 too.
        name: name of the metric.
        **kwargs: arguments of `keras.metrics.Metric`.

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
        """Adds a batch.

        Args:
            y_true: int `(B, T)` or `(B,)`; an axis of one more at the end does not matter.
            y_pred: float logits `(B, T, V)` or `(B, V)`. What their Keras mask hides does not count.
            sample_weight: optional float, one for each row or label.
        """
        mask, y_pred = compat.keras_mask(y_pred), ops.convert_to_tensor(y_pred)
        labels = ops.cast(token_labels(y_true, y_pred), "int32")
        weights = entry_weights(real_tokens(labels, self.ignored_labels), sample_weight, mask)
        hits = ops.equal(labels, ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        # Keras' own mean would weigh each token by the length of its batch.
        self.total.assign_add(ops.cast(ops.sum(ops.cast(hits, "float32") * weights), self.dtype))
        self.count.assign_add(ops.cast(ops.sum(weights), self.dtype))
