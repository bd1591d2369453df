"""How often the likeliest token is the right one."""

import keras
from keras import ops

from keras_attn.training.summed_loss import entry_weights, real_tokens


@keras.saving.register_keras_serializable(package="keras_attn")
class MaskedAccuracy(keras.metrics.Mean):
    """Share of real tokens whose label has the largest logit; an exact mean over any number of batches.

    Args:
        ignore_id: label of tokens that do not count; None counts all.
        name: name of the metric.
        **kwargs: arguments of `keras.metrics.Metric`.

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import MaskedAccuracy
    >>> metric = MaskedAccuracy()
    >>> float(metric(np.array([[1, 2, 0]]), np.eye(3)[None, [1, 1, 0]]))
    0.5
    """

    def __init__(self, ignore_id=0, name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_id = ignore_id

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch: int labels `(B, T)`, logits `(B, T, V)`, optional float weights `(B, T)` or `(B,)`."""
        labels = ops.cast(y_true, "int32")
        weights = real_tokens(labels, self.ignore_id)
        if sample_weight is not None:
            weights = weights * entry_weights(sample_weight, len(labels.shape))
        hits = ops.equal(labels, ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        super().update_state(ops.cast(hits, "float32"), sample_weight=weights)

    def get_config(self):
        return {**super().get_config(), "ignore_id": self.ignore_id}
