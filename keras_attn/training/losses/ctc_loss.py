"""Connectionist temporal classification."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn import compat
from keras_attn.argument_checks import check_count, check_vocabulary
from keras_attn.ops.arrays import shape_of
from keras_attn.ops.ctc import ctc_losses
from keras_attn.training.losses.entries import entry_weights, real_tokens
from keras_attn.training.losses.ignored_labels import IgnoredLabels
from keras_attn.training.losses.summed_loss import SummedLoss
from keras_attn.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class CTCLoss(IgnoredLabels, SummedLoss):
    """Mean over rows of `-log sum_a p(a)`, over all alignments `a` of the labels to the frames.

    An alignment assigns a class or the blank to every frame; merging repetitions and then dropping blanks gives the
    labels. Computed in float32. `keras_attn.ops.ctc_greedy` and `ctc_beam_search` decode the logits.

    Args:
        blank_id: The class of the blank. As a label it is padding, as in Wav2Vec2.
        ignore_id: Another label of padding; see `MaskedCrossEntropy`. Padding must come after the labels.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`; `reduction` "sum_over_batch_size" is the mean over rows, "sum" their
            sum, None the loss of each row.

    Call arguments:
        y_true: Integer `(B, U)`, padded on the right.
        y_pred: Float logits `(B, T, V)`. Frames that their Keras mask hides do not count; they must come last.
        sample_weight: Optional float `(B,)` or `(B, 1)`. The loss is then the weighted mean.

    Returns:
        Float32 scalar, or `(B,)` with `reduction=None`.

    Raises:
        ValueError: If a shape is invalid. The loss of a row is infinite if its labels need more frames than there are:
            one for each label, and one between two that are equal. `Trainer` raises a ValueError for such rows.

    Reference:
        [Graves et al., 2006](https://www.cs.toronto.edu/~graves/icml_2006.pdf)

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import CTCLoss
    >>> labels, logits = np.array([[1, 0]]), np.zeros((1, 2, 2), "float32")
    >>> round(float(np.exp(-CTCLoss()(labels, logits))), 4)
    0.75
    """

    def __init__(
        self, blank_id: int = 0, ignore_id: int | str | None = "auto", name: str = "ctc_loss", **kwargs: Any
    ) -> None:
        check_count(blank_id=blank_id)
        super().__init__(name=name, **kwargs)
        self.blank_id = int(blank_id)
        self.set_ignore_id(ignore_id)

    def labels(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        labels = ops.convert_to_tensor(y_true)
        if len(labels.shape) != 2 or len(y_pred.shape) != 3:
            raise ValueError(
                "`y_true` must be labels (batch, length), and `y_pred` logits (batch, frames, classes). "
                f"Received: y_true.shape={tuple(labels.shape)}, y_pred.shape={tuple(y_pred.shape)}"
            )
        return labels

    def real(self, y_true: Tensor) -> Tensor:
        """Float32 ones `(B,)`: every row counts."""
        return ops.ones(shape_of(y_true)[:1], dtype="float32")

    def entry_weights(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return entry_weights(self.real(self.labels(y_true, y_pred)), sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each row, float32 `(B,)`: infinite if there are too few frames, NaN for invalid labels."""
        real = ops.cast(real_tokens(y_true, self._padding), "bool")
        is_class = ops.logical_and(y_true >= 0, y_true < y_pred.shape[-1])
        is_known = ops.logical_or(is_class, ops.logical_not(real))
        losses = ctc_losses(
            ops.where(is_class, y_true, ops.zeros_like(y_true)),
            ops.cast(y_pred, "float32"),
            real,
            compat.keras_mask(y_pred),
            self.blank_id,
        )
        return ops.where(ops.all(is_known, axis=1), losses, float("nan"))

    def check_labels(self, name: str, labels: Tensor, num_classes: int, weights: Tensor | None = None) -> None:
        """Raises a ValueError if a label is neither padding nor a class, or padding precedes it."""
        labels = labels[_counts(labels, weights)]
        real = ~np.isin(labels, self._padding)
        check_vocabulary(num_classes, **{name: labels[real]})
        if np.any(real[:, 1:] & ~real[:, :-1]):
            row = np.argmax(np.any(real[:, 1:] & ~real[:, :-1], axis=1))
            raise ValueError(f"`{name}` must be padded on the right. Received: {labels[row].tolist()}")

    def check_frames(self, name: str, labels: Tensor, outputs: Tensor, weights: Tensor | None = None) -> None:
        """Raises a ValueError if labels need more frames than the outputs have."""
        real, mask = ~np.isin(labels, self._padding), compat.keras_mask(outputs)
        repeats = (labels[:, 1:] == labels[:, :-1]) & real[:, 1:]
        needed = real.sum(axis=1) + repeats.sum(axis=1)
        frames = np.full(len(labels), outputs.shape[1]) if mask is None else np.sum(mask, axis=1)
        if np.any(short := (needed > frames) & _counts(needed, weights)):
            row = int(np.argmax(short))
            raise ValueError(
                f"`{name}` must fit the frames: one for each label, and one between two that are equal; make inputs "
                f"longer or strides smaller. Received: labels that need {needed[row]} of {frames[row]} frames in "
                f"row {row}"
            )

    @property
    def _padding(self):
        return (*self.ignored_labels, self.blank_id)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "blank_id": self.blank_id}


def _counts(rows, weights):
    """Which rows have a weight other than 0, bool `(B,)`."""
    if weights is None:
        return np.ones(len(rows), bool)
    return np.any(np.reshape(np.not_equal(weights, 0), (len(rows), -1)), axis=1)
