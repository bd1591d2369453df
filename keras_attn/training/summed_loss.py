"""What losses have in common that are a sum divided by a weight."""

import keras
from keras import ops


class SummedLoss(keras.losses.Loss):
    """`sum_i w_i l_i / sum_i w_i`, whose two sums can be had apart.

    The mean of means of unequal parts is not the mean of the whole. Where a batch is spread over replicas or
    micro-batches, `total` is called for each part, the sums and the weights are added up over all of them, and one is
    divided by the other once.

    A subclass implements `call(y_true, y_pred)`, the losses of the entries, 0 where one does not count; and
    `real(y_true)`, of the same shape, which says by 1 and 0 whether an entry counts.

    Args:
        **kwargs: arguments of `keras.losses.Loss`; `reduction` "sum_over_batch_size" is the mean above, "sum" the sum
            alone, None the weighted losses.

    Call arguments:
        y_true, y_pred: see the subclass.
        sample_weight: optional float, of the shape of the losses, one that broadcasts to it, or `(B,)`.

    Returns:
        Float32 scalar; with `reduction=None`, the shape of the losses.
    """

    def real(self, y_true):
        """Float32, 1 where an entry counts."""
        return ops.ones(ops.shape(y_true), dtype="float32")

    def check_labels(self, name, labels, num_classes, weights=None):
        """Raises a ValueError where labels do not fit outputs `(..., num_classes)`; here, all fit.

        For arrays, before a step: within it, XLA would take any number for a label.

        Args:
            name: what the labels are called where they are refused.
            labels: array as of a call's `y_true`.
            num_classes: size of the last axis of `y_pred`.
            weights: optional array as of a call's `sample_weight`.
        """

    def total(self, y_true, y_pred, sample_weight=None):
        """`(sum, weight)`, float32 scalars: `sum_i w_i l_i` and `sum_i w_i`, where `w_i` is 0 at what does not count.

        The loss is their quotient. Neither is divided by anything, so both may be added up over parts of a batch.
        """
        losses, weights = self._weighted(y_true, y_pred, sample_weight)
        return ops.sum(losses), ops.sum(weights)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if self.reduction in (None, "none"):
            return self._weighted(y_true, y_pred, sample_weight)[0]
        total, weight = self.total(y_true, y_pred, sample_weight)
        return total if self.reduction == "sum" else ops.divide_no_nan(total, weight)

    def _weighted(self, y_true, y_pred, sample_weight):
        y_true = ops.convert_to_tensor(y_true)
        losses, weights = self.call(y_true, ops.convert_to_tensor(y_pred)), self.real(y_true)
        if sample_weight is not None:
            given = entry_weights(sample_weight, len(losses.shape))
            losses, weights = losses * given, weights * given
        return losses, weights


def entry_weights(sample_weight, rank):
    """Float32 that broadcasts to losses of `rank`, also where the weights are those of whole rows, `(B,)`."""
    weights = ops.cast(sample_weight, "float32")
    if len(weights.shape) == 1 and rank > 1:
        weights = ops.reshape(weights, (-1, *[1] * (rank - 1)))
    return weights


def real_tokens(labels, ignore_id):
    """Float32, 1 where a label counts and 0 at `ignore_id`; all count where it is None."""
    if ignore_id is None:
        return ops.ones(ops.shape(labels), dtype="float32")
    return ops.cast(ops.not_equal(labels, ignore_id), "float32")
