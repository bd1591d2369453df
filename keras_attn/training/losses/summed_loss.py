"""What losses have in common that are a sum divided by a weight."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn import compat
from keras_attn.training.losses.entries import entry_weights
from keras_attn.typing import Tensor


class SummedLoss(keras.losses.Loss):
    """`sum_i w_i l_i / sum_i w_i`, whose two sums can be had apart.

    The mean of means of unequal parts is not the mean of the whole. Where a batch is spread over replicas or
    micro-batches, `total` is called for each part, the sums and the weights are added up over all of them, and one is
    divided by the other once.

    A subclass implements `call(y_true, y_pred)`, the losses of the entries, 0 where one does not count; and
    `real(y_true)`, of the same shape, which says by 1 and 0 whether an entry counts. If labels may have another shape
    than losses, it implements `labels(y_true, y_pred)` too.

    The Keras mask of the outputs counts: an entry that it hides has the weight 0. The loss of an entry of weight 0 may
    be anything, NaN included.

    Args:
        **kwargs: arguments of `keras.losses.Loss`; `reduction` "sum_over_batch_size" is the mean above, "sum" the sum
            alone, None the weighted losses.

    Call arguments:
        y_true, y_pred: see the subclass.
        sample_weight: optional float, of the shape of the losses, one that broadcasts to it, or `(B,)`; an axis of one
            more at the end does not matter.

    Returns:
        Float32 scalar; with `reduction=None`, the shape of the losses.
    """

    def labels(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The labels in the shape of the losses."""
        return ops.convert_to_tensor(y_true)

    def real(self, y_true: Tensor) -> Tensor:
        """Float32, 1 where an entry counts."""
        return ops.ones(ops.shape(y_true), dtype="float32")

    def check_labels(self, name: str, labels: Tensor, num_classes: int, weights: Tensor | None = None) -> None:
        """Raises a ValueError where labels do not fit outputs `(..., num_classes)`; here, all fit.

        For arrays, before a step: within it, XLA would take any number for a label.

        Args:
            name: what the labels are called where they are refused.
            labels: array as of a call's `y_true`.
            num_classes: size of the last axis of `y_pred`.
            weights: optional array as of a call's `sample_weight`.
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
        # Zero times what is no number would be no number.
        counts = ops.not_equal(weights, 0)
        losses = self.call(y_true, y_pred)
        return ops.where(counts, losses * weights, ops.zeros_like(losses)), weights


def _num_replicas():
    """By how much Keras wants a mean divided: under a strategy its `fit` adds up the gradients of all replicas."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
