"""Base class of losses that are a sum divided by a weight."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn import compat
from keras_attn.ops.arrays import shape_of
from keras_attn.training.losses.entries import entry_weights
from keras_attn.typing import Tensor


class SummedLoss(keras.losses.Loss):
    """`sum_i w_i l_i / sum_i w_i`, with separate access to the two sums.

    The mean of the means of unequal parts is not the mean of the whole. If a batch is split over replicas or
    micro-batches, `total` is called for each part, sums and weights are added up over all parts, and divided once:
    `Trainer` does that in `training/train_step.py`.

    A subclass implements `call(y_true, y_pred)`, which returns the losses of the entries, 0 for ignored ones, and
    `real(y_true)`, which returns 1 for entries that count and 0 for others, in the same shape. If labels can have
    another shape than losses, it also implements `labels(y_true, y_pred)`.

    Entries that the Keras mask of the outputs hides have weight 0. The loss of entries of weight 0 may have any value,
    including NaN.

    Args:
        **kwargs: Arguments of `keras.losses.Loss`. `reduction` "sum_over_batch_size" is the mean above, "sum" only the
            sum, None the weighted losses.

    Call arguments:
        y_true, y_pred: See the subclass.
        sample_weight: Optional float, broadcastable to the shape of the losses, or `(B,)`. A trailing axis of size 1 is
            allowed.

    Returns:
        Float32 scalar, or the shape of the losses with `reduction=None`.
    """

    def labels(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The labels, in the shape of the losses."""
        return ops.convert_to_tensor(y_true)

    def real(self, y_true: Tensor) -> Tensor:
        """Float32, 1 for entries that count."""
        return ops.ones(shape_of(y_true), dtype="float32")

    def check_labels(self, name: str, labels: Tensor, num_classes: int, weights: Tensor | None = None) -> None:
        """Raises a ValueError if labels are invalid for outputs `(..., num_classes)`. By default, all are valid.

        Called with arrays before a step, because XLA accepts any number as a label.

        Args:
            name: Argument name of the labels, for error messages.
            labels: Array, as `y_true` of a call.
            num_classes: Size of the last axis of `y_pred`.
            weights: Optional array, as `sample_weight` of a call.
        """

    def total(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(sum, weight)`, float32 scalars: `sum_i w_i l_i` and `sum_i w_i`, where `w_i` is 0 at what does not count.

        The loss is their quotient. Neither is divided by anything, so both may be added up over parts of a batch.
        """
        losses, weights = self._weighted(y_true, y_pred, sample_weight)
        return ops.sum(losses), ops.sum(weights)

    def entry_weights(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """`w_i` of `total`: float32, of the shape of the losses, 0 at what does not count."""
        mask, y_pred = compat.keras_mask(y_pred), ops.convert_to_tensor(y_pred)
        return entry_weights(self.real(self.labels(y_true, y_pred)), sample_weight, mask)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        if self.reduction in (None, "none"):
            return self._weighted(y_true, y_pred, sample_weight)[0]
        total, weight = self.total(y_true, y_pred, sample_weight)
        return total if self.reduction == "sum" else ops.divide_no_nan(total, weight) / _num_replicas()

    def _weighted(self, y_true, y_pred, sample_weight):
        weights = self.entry_weights(y_true, y_pred, sample_weight)
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = self.labels(y_true, y_pred)
        # Zero times NaN would be NaN.
        counts = ops.not_equal(weights, 0)
        losses = self.call(y_true, y_pred)
        return ops.where(counts, losses * weights, ops.zeros_like(losses)), weights


def _num_replicas():
    """The divisor of means: in a strategy, Keras' `fit` sums the gradients of all replicas."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
