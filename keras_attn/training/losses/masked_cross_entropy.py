"""Masked cross-entropy with label smoothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn import compat
from keras_attn.argument_checks import check_vocabulary
from keras_attn.ops.linear_cross_entropy import linear_cross_entropy, smoothed_cross_entropy
from keras_attn.training.losses.entries import aligned, entry_weights, real_tokens, token_labels
from keras_attn.training.losses.ignored_labels import IgnoredLabels
from keras_attn.training.losses.summed_loss import SummedLoss
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class MaskedCrossEntropy(IgnoredLabels, SummedLoss):
    """Mean over real tokens of `-(1 - e) log p[label] - e / V * sum_v log p[v]`.

    Tokens whose label is `ignore_id` count neither in the sum nor in the number of tokens, so the loss equals that of
    sequences without padding. Log-probabilities are computed in float32, without one-hot labels.

    `total` returns sum and weight separately, so that the mean can be taken over the tokens of a distributed batch.
    `linear_total` computes them from hidden states, without materialising the logits.

    Args:
        label_smoothing: The fraction `e` of each label that is distributed over the vocabulary.
        ignore_id: Label of tokens to ignore; None ignores no label. "auto" ignores the padding label that a `Trainer`
            or `compile` of this package's models provides (0 without them), and -100.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`; `reduction` "sum_over_batch_size" is the mean over real tokens,
            "sum" their sum, None the loss of each token.

    Call arguments:
        y_true: Integer `(B, T)` or `(B, T, 1)`; or `(B,)` or `(B, 1)`, one class per row.
        y_pred: Float logits `(B, T, V)` or `(B, V)`. Positions that their Keras mask hides are ignored.
        sample_weight: Optional float `(B,)`, `(B, T)` or `(B, T, 1)`, or broadcastable to `(B, T)`. The loss is then
            the weighted mean.

    Returns:
        Float32 scalar, or `(B, T)` with `reduction=None`.

    Raises:
        ValueError: If `label_smoothing` is not in [0, 1), or a shape is invalid.

    Reference:
        [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567), section 7

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import MaskedCrossEntropy
    >>> labels, logits = np.array([[1, 0]]), np.zeros((1, 2, 4), "float32")
    >>> round(float(MaskedCrossEntropy(label_smoothing=0.1)(labels, logits)), 4)
    1.3863
    >>> total, weight = MaskedCrossEntropy().total(labels, logits)
    >>> round(float(total), 4), float(weight)
    (1.3863, 1.0)
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        ignore_id: int | str | None = "auto",
        name: str = "masked_cross_entropy",
        **kwargs: Any,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing}")
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing
        self.set_ignore_id(ignore_id)

    def labels(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return token_labels(y_true, y_pred)

    def real(self, y_true: Tensor) -> Tensor:
        """Float32, 1 at tokens that are not ignored."""
        return real_tokens(y_true, self.ignored_labels)

    def check_labels(self, name: str, labels: Tensor, num_classes: int, weights: Tensor | None = None) -> None:
        """Raises a ValueError if a label is neither ignored nor below `num_classes`; see `SummedLoss.check_labels`."""
        counts = ~np.isin(labels, self.ignored_labels)
        if weights is not None:
            try:
                counts = counts & np.broadcast_to(aligned(weights, labels.ndim) != 0, labels.shape)
            except ValueError:
                raise ValueError(
                    f"`{name}` must have weights that broadcast to them. "
                    f"Received: labels of shape {labels.shape} and weights of {weights.shape}"
                ) from None
        check_vocabulary(num_classes, **{name: labels[counts]})

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each token, float32 `(B, T)`: zero for ignored tokens, and NaN for invalid labels."""
        real, is_class, labels = self._classes(y_true, y_pred.shape[-1])
        losses = smoothed_cross_entropy(ops.cast(y_pred, "float32"), labels, self.label_smoothing)
        return real * ops.where(is_class, losses, float("nan"))

    def linear_total(
        self, y_true: Tensor, hidden: Tensor, projection: Mapping[str, Any], sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`total` of the logits of hidden states, without materialising all logits.

        Args:
            y_true: Integer `(B, T)` or `(B, T, 1)`.
            hidden: Float `(B, T, D)`, a model's `hidden_states`. Positions that their Keras mask hides are ignored.
            projection: Dict of arguments of `keras_attn.ops.linear_cross_entropy`, from a model's
                `output_projection()`.
            sample_weight: As in a call.

        Returns:
            `(sum, weight)`, float32 scalars.
        """
        num_classes = projection["kernel"].shape[0 if projection.get("transpose_kernel") else 1]
        real, is_class, labels = self._classes(token_labels(y_true, hidden), num_classes)
        weights = entry_weights(real, sample_weight, compat.keras_mask(hidden))
        total = linear_cross_entropy(
            hidden, labels=labels, weights=weights, label_smoothing=self.label_smoothing, **projection
        )
        all_known = ops.all(ops.logical_or(is_class, ops.equal(weights, 0)))
        return ops.where(all_known, total, float("nan")), ops.sum(weights)

    def _classes(self, labels, num_classes):
        """`(real, is_class, classes)` of labels. `classes` is int32, 0 for labels out of range."""
        real = self.real(labels)
        in_range = ops.logical_and(ops.greater_equal(labels, 0), ops.less(labels, num_classes))
        classes = ops.cast(ops.where(in_range, labels, ops.zeros_like(labels)), "int32")
        # `ignore_id` may be outside of the vocabulary, such as -100.
        return real, ops.logical_or(in_range, ops.equal(real, 0)), classes

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
