"""R-Drop: consistency of two dropout passes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn.training.losses.ignored_labels import IgnoredLabels
from keras_attn.training.losses.masked_cross_entropy import MaskedCrossEntropy
from keras_attn.training.losses.summed_loss import SummedLoss
from keras_attn.typing import Nest, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class RDrop(IgnoredLabels, SummedLoss):
    """`(CE_1 + CE_2) / 2 + alpha * (KL(p_1 || p_2) + KL(p_2 || p_1)) / 2`, a mean over real tokens.

    `p_1` and `p_2` are the results of two passes with different dropout masks on the same inputs, which are rows `2i`
    and `2i + 1` of the batch. `RDrop.repeat` makes such a batch. Each replica needs an even number of rows. With
    `Trainer(compute_loss=...)`, a function calls the model twice instead, and no rows are doubled.

    Args:
        alpha: Weight of the divergence.
        label_smoothing, ignore_id: See `MaskedCrossEntropy`.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: Integer `(2B, T)` or `(2B,)`; a trailing axis of size 1 is allowed.
        y_pred: Float logits `(2B, T, V)` or `(2B, V)`. Positions that their Keras mask hides are ignored.
        sample_weight: Optional float `(2B,)`, or broadcastable to `(2B, T)`.

    Returns:
        Float32 scalar, or `(2B, T)` or `(2B,)` with `reduction=None`.

    Raises:
        ValueError: If an argument is not as described, or the number of rows is odd.

    Reference:
        [Wu et al., 2021](https://arxiv.org/abs/2106.14448)

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import RDrop
    >>> labels, logits = RDrop.repeat(np.array([[1, 2]]), np.zeros((1, 2, 4), "float32"))
    >>> labels.shape, round(float(RDrop(alpha=5.0)(labels, logits)), 4)
    ((2, 2), 1.3863)
    """

    def __init__(
        self,
        alpha: float = 1.0,
        label_smoothing: float = 0.0,
        ignore_id: int | str | None = "auto",
        name: str = "r_drop",
        **kwargs: Any,
    ) -> None:
        if not alpha >= 0:
            raise ValueError(f"`alpha` must not be negative. Received: alpha={alpha}")
        super().__init__(name=name, **kwargs)
        self.alpha = alpha
        self.set_ignore_id(ignore_id)
        self._cross_entropy = MaskedCrossEntropy(label_smoothing, ignore_id)
        self._followers = (self._cross_entropy,)

    @staticmethod
    def repeat(*batch: Nest) -> Nest:
        """Repeats each row of a batch, which is any nest of arrays or tensors, twice in succession."""

        def twice(x):
            return x if x is None else (np if isinstance(x, np.ndarray) else ops).repeat(x, 2, axis=0)

        repeated = keras.tree.map_structure(twice, batch)
        return repeated[0] if len(batch) == 1 else repeated

    def labels(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self._cross_entropy.labels(y_true, y_pred)

    def real(self, y_true: Tensor) -> Tensor:
        """Float32, 1 at tokens that are not ignored."""
        return self._cross_entropy.real(y_true)

    def check_labels(self, name: str, labels: Tensor, num_classes: int, weights: Tensor | None = None) -> None:
        """Raises a ValueError if a label is neither ignored nor below `num_classes`; see `SummedLoss.check_labels`."""
        self._cross_entropy.check_labels(name, labels, num_classes, weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each token, with half of the divergence in each of the two passes."""
        rows = y_pred.shape[0]
        if rows is not None and rows % 2:
            raise ValueError(f"`y_pred` must have an even number of rows, each input twice. Received: {rows} rows")
        log_p = ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1)
        first, second = log_p[0::2], log_p[1::2]
        # (KL(p || q) + KL(q || p)) / 2
        divergence = ops.sum((ops.exp(first) - ops.exp(second)) * (first - second), axis=-1) / 2
        return self._cross_entropy.call(y_true, y_pred) + self.alpha * self.real(y_true) * ops.repeat(
            divergence, 2, axis=0
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha, "label_smoothing": self._cross_entropy.label_smoothing}
