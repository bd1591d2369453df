"""Label-smoothed cross entropy over the real tokens of a batch."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_attn")
class MaskedCrossEntropy(keras.losses.Loss):
    """Mean over real tokens of `-(1 - e) log p[label] - e / V * sum_v log p[v]`.

    Tokens whose label is `ignore_id` count neither above nor below the fraction line, so the loss is that of the
    sequences without padding. Log-probabilities are computed in float32, and no one-hot is made.

    Args:
        label_smoothing: the share `e` of each label that is spread over the vocabulary.
        ignore_id: label of tokens that do not count; None counts all.
        name: name of the loss.
        **kwargs: arguments of `keras.losses.Loss`; `reduction` "sum_over_batch_size" is the mean over real tokens,
            "sum" their sum, None the loss of each token.

    Call arguments:
        y_true: int `(B, T)`.
        y_pred: float logits `(B, T, V)`.
        sample_weight: optional float `(B,)`, or one that broadcasts to `(B, T)`; the mean is the weighted one.

    Returns:
        Float32 scalar; with `reduction=None`, `(B, T)`.

    Raises:
        ValueError: `label_smoothing` is not in [0, 1).

    Reference:
        [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567), section 7

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import MaskedCrossEntropy
    >>> labels, logits = np.array([[1, 0]]), np.zeros((1, 2, 4), "float32")
    >>> round(float(MaskedCrossEntropy(label_smoothing=0.1)(labels, logits)), 4)
    1.3863
    """

    def __init__(self, label_smoothing=0.0, ignore_id=0, name="masked_cross_entropy", **kwargs):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing}")
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing
        self.ignore_id = ignore_id

    def call(self, y_true, y_pred):
        """The loss of each token, float32 `(B, T)`, zero where it does not count."""
        labels, logits = ops.cast(y_true, "int32"), ops.cast(y_pred, "float32")
        real = real_tokens(labels, self.ignore_id)
        # `ignore_id` may lie outside of the vocabulary, as -100 does.
        labels = labels * ops.cast(real, "int32")
        normalizer = ops.logsumexp(logits, axis=-1)
        chosen = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1), -1)
        loss = normalizer - chosen
        if self.label_smoothing:
            loss = loss + self.label_smoothing * (chosen - ops.mean(logits, axis=-1))
        return loss * real

    def __call__(self, y_true, y_pred, sample_weight=None):
        losses = self.call(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
        weights = real_tokens(y_true, self.ignore_id)
        if sample_weight is not None:
            sample_weight = token_weights(sample_weight)
            losses, weights = losses * sample_weight, weights * sample_weight
        if self.reduction in (None, "none"):
            return losses
        total = ops.sum(losses)
        if self.reduction == "sum":
            return total
        return ops.divide_no_nan(total, ops.sum(weights))

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "ignore_id": self.ignore_id}


def token_weights(sample_weight):
    """Float32 that broadcasts to `(B, T)`, also where the weights are those of whole rows, `(B,)`."""
    weights = ops.cast(sample_weight, "float32")
    return ops.expand_dims(weights, -1) if len(weights.shape) == 1 else weights


def real_tokens(labels, ignore_id):
    """Float32, 1 where a label counts and 0 at `ignore_id`."""
    if ignore_id is None:
        return ops.ones(ops.shape(labels), dtype="float32")
    return ops.cast(ops.not_equal(labels, ignore_id), "float32")
