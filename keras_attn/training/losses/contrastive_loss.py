"""Contrastive loss of pairs of vectors."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_positive_number
from keras_attn.ops.arrays import shape_of
from keras_attn.training.losses.summed_loss import SummedLoss
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ContrastiveLoss(SummedLoss):
    """`-log softmax_j(cos(a_i, b_j) / temperature)[i]`: identifies `b_i` for each `a_i` among all `b` of the batch.

    With `symmetric`, the mean of this and of the loss of identifying `a_j` for each `b_j`. The loss is not a sum of
    independent losses of rows: if a batch is split into parts or over replicas, each row is only compared with the
    other rows of its part, and the loss changes.

    Args:
        temperature: Divisor of the cosines.
        symmetric: Whether to average over both directions.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: Ignored. Vectors are matched by position.
        y_pred: Float `(B, 2, D)`, pairs of vectors of any length but zero. Rows that their Keras mask `(B,)` hides have
            no loss, but are still negatives for the others.
        sample_weight: Optional float `(B,)` or `(B, 1)`.

    Returns:
        Float32 scalar, or `(B,)` with `reduction=None`.

    Raises:
        ValueError: If `temperature` is not positive, or `y_pred` has another shape.

    Reference:
        [van den Oord et al., 2018](https://arxiv.org/abs/1807.03748);
        symmetric [Radford et al., 2021](https://arxiv.org/abs/2103.00020)

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import ContrastiveLoss
    >>> pairs = np.repeat(np.eye(3, dtype="float32")[:, None], 2, axis=1)
    >>> round(float(ContrastiveLoss(temperature=0.5)(np.zeros(3), pairs)), 4)
    0.2395
    """

    def __init__(
        self, temperature: float = 0.05, symmetric: bool = False, name: str = "contrastive", **kwargs: Any
    ) -> None:
        check_positive_number(temperature=temperature)
        super().__init__(name=name, **kwargs)
        self.temperature = temperature
        self.symmetric = symmetric

    def labels(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return ops.zeros(shape_of(y_pred)[:1], dtype="int32")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each row, float32 `(B,)`."""
        if len(y_pred.shape) != 3 or y_pred.shape[1] != 2:
            raise ValueError(f"`y_pred` must have shape (B, 2, D). Received: y_pred.shape={tuple(y_pred.shape)}")
        vectors = ops.cast(y_pred, "float32")
        vectors = vectors / ops.norm(vectors, axis=-1, keepdims=True)
        logits = ops.matmul(vectors[:, 0], ops.transpose(vectors[:, 1])) / self.temperature
        found = ops.diagonal(logits)
        losses = ops.logsumexp(logits, axis=1) - found
        if self.symmetric:
            losses = (losses + ops.logsumexp(logits, axis=0) - found) / 2
        return losses

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature, "symmetric": self.symmetric}
