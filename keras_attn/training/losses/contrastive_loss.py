"""Vectors that must find their partners."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_positive_number
from keras_attn.training.losses.summed_loss import SummedLoss
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ContrastiveLoss(SummedLoss):
    """`-log softmax_j(cos(a_i, b_j) / temperature)[i]`: each `a_i` must find `b_i` among the `b` of its batch.

    With `symmetric`, the mean of that and of each `b_j` among the `a`. It is a mean over rows, but no sum of what each
    row has by itself: a batch in parts has fewer wrong partners in each part, and another loss. So is a batch that is
    spread over replicas, whose rows meet those of their own replica only.

    Args:
        temperature: what the cosines are divided by.
        symmetric: whether both directions count.
        name: name of the loss.
        **kwargs: arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: not looked at: which vectors belong together is said by their places.
        y_pred: float `(B, 2, D)`, pairs of vectors of any length but zero. Rows that their Keras mask `(B,)` hides do
            not count, but are still wrong partners of others.
        sample_weight: optional float `(B,)` or `(B, 1)`.

    Returns:
        Float32 scalar; with `reduction=None`, `(B,)`.

    Raises:
        ValueError: `temperature` is not positive, or `y_pred` is shaped otherwise.

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
        return ops.zeros(ops.shape(y_pred)[:1], dtype="int32")

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
