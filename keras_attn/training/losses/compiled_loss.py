"""The losses of `keras.Model.compile`, with the same meaning, as sums that can be added up over parts of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn import compat
from keras_attn.ops.arrays import axis_size, shape_of
from keras_attn.ops.boolean_mask import both
from keras_attn.training.losses.entries import aligned, check_fits, label_kind, same_rank
from keras_attn.typing import Tensor


class FunctionLoss(keras.losses.Loss):
    """A loss function `(y_true, y_pred)`, called with labels and outputs of equal rank as by `keras.Model.compile`."""

    def __init__(self, function):
        super().__init__(name=getattr(function, "__name__", None))
        self.function = function

    def call(self, y_true, y_pred):
        return self.function(*same_rank(y_true, y_pred))


def as_loss(loss):
    """The `keras.losses.Loss` that `keras.Model.compile` would make of an object, a function, a name or a config.

    A list or dict with a single loss, for models whose outputs are such, is replaced by that loss.
    """
    if isinstance(loss, dict) and "class_name" not in loss:
        loss = list(loss.values())
    if isinstance(loss, list | tuple) and len(loss) == 1:
        (loss,) = loss
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        loss = _cross_entropy
    loss = keras.losses.get(loss)
    if loss is None or isinstance(loss, keras.losses.Loss) or hasattr(loss, "total"):
        return loss
    return FunctionLoss(loss)


def sums_up(loss):
    """Whether the loss of a batch is the sum, not the mean, of the losses of its entries."""
    return getattr(loss, "reduction", None) == "sum"


def decides_itself(loss):
    """Whether a loss overrides Keras' reduction of the losses of entries, so that parts cannot be added up."""
    return not hasattr(loss, "total") and type(loss).__call__ is not keras.losses.Loss.__call__


def check_labels(loss, name, labels, num_classes, weights=None):
    """Raises a ValueError if labels, an array, are invalid for a loss and outputs of `num_classes`."""
    if hasattr(loss, "check_labels"):
        loss.check_labels(name, labels, num_classes, weights)
    elif _is_of_keras(loss) and np.issubdtype(labels.dtype, np.floating) and np.isnan(labels).any():
        raise ValueError(f"`{name}` must be numbers. Received: NaN at {np.argwhere(np.isnan(labels))[0].tolist()}")


def loss_total(
    loss: keras.losses.Loss | Callable[..., Any] | str,
    labels: Tensor,
    outputs: Tensor,
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`(sum_i w_i l_i, sum_i w_i)` of any loss, to be added to others in a `ComputeLoss`.

    Other than in `keras.Model.compile`, a loss of Keras is divided by the weights of the entries, and not by their
    number: by that, rows that only fill up a batch do not count. `labels` may be anything that the loss compares with
    outputs, such as the probabilities of a teacher.

    Args:
        loss: `keras.losses.Loss`, a function of labels and outputs that gives a loss for each row or entry, or the name
            of one.
        labels: tensor, as the loss takes it.
        outputs: tensor, as the loss takes it. What their Keras mask hides does not count.
        sample_weight: optional, one for each row or entry, such as what `SummedLoss.entry_weights` returns.

    Returns:
        `(sum, weight)`, float32 scalars.

    Raises:
        ValueError: the loss has no losses of entries, or gives a sum; or weights do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import loss_total
    >>> total, weight = loss_total("mse", np.zeros((3, 1)), np.ones((3, 1)), np.array([1.0, 0.0, 2.0]))
    >>> float(total), float(weight)
    (3.0, 3.0)
    """
    given, loss = loss, as_loss(loss)
    if loss is None or sums_up(loss) or decides_itself(loss):
        raise ValueError(
            "`loss` must give a loss for each row or entry, be a mean of these, not a 'sum', and leave `__call__` to "
            f"keras.losses.Loss. Received: loss={given!r}"
        )
    labels, outputs = (x if hasattr(x, "shape") else ops.convert_to_tensor(x) for x in (labels, outputs))
    sample_weight = None if sample_weight is None else ops.convert_to_tensor(sample_weight)
    if hasattr(loss, "total"):
        return loss.total(labels, outputs, sample_weight)
    return _sums(loss, labels, outputs, sample_weight, None, 0, by_weights=True)


def batch_total(loss, batch, outputs, part):
    """`(sum, weight)` of a loss for a part of a batch, whose quotient of sums over all parts is the loss of the whole.

    For a batch in one part the quotient is what the loss itself would give. Sample weights `(B,)` count for rows,
    however many axes losses have.

    Args:
        loss: from `as_loss`.
        batch: `(inputs, labels, weights, present)`, `present` a float32 `(B,)`, 0 at rows that were only added to make
            parts even, or None.
        outputs: the model's, with their Keras mask.
        part: what this is of all that makes one loss, such as a half: the weight of a loss that is a sum.
    """
    _, labels, weights, present = batch
    if hasattr(loss, "total"):
        total, weight = loss.total(labels, outputs, present if weights is None else weights)
    elif decides_itself(loss):
        weight = ops.cast(axis_size(outputs, 0), "float32")
        total = ops.mean(ops.cast(loss(labels, outputs, weights), "float32")) * weight
    else:
        by_weights = loss.reduction == "mean_with_sample_weight"
        total, weight = _sums(loss, labels, outputs, weights, present, part, by_weights)
    return total, ops.cast(part, "float32") if sums_up(loss) else weight


def _sums(loss, labels, outputs, weights, present, part, by_weights):
    outputs_mask = compat.keras_mask(outputs)
    losses = loss.call(ops.cast(labels, loss.dtype), ops.cast(outputs, loss.dtype))
    mask = both(outputs_mask, compat.keras_mask(losses))
    dtype = "float64" if keras.backend.standardize_dtype(losses.dtype) == "float64" else "float32"
    losses = ops.cast(losses, dtype)
    given = {"sample_weight": weights, "mask": mask, "present": present}
    given = {name: ops.cast(x, dtype) for name, x in given.items() if x is not None}
    # A scalar is treated as a mean over rows. The effect of weights and masks on parts is then unknown.
    is_scalar = len(losses.shape) == 0
    if is_scalar and given and part < 1:
        raise ValueError(
            "`loss` must give a number for each row if a batch that has weights, a mask or rows that cannot be split "
            "evenly is computed in parts. Received: a loss that gives one number"
        )
    rank = max((len(x.shape) for x in given.values()), default=1) if is_scalar else len(losses.shape)
    counts_rows = weights is not None and len(weights.shape) == 1
    given = {name: aligned(x, rank) for name, x in given.items()}
    if is_scalar:
        losses = losses * (math.prod(map(ops.ones_like, given.values())) if given else ops.ones(shape_of(labels)[:1]))
    for name, x in given.items():
        check_fits(name, x, losses.shape, "losses")
    if counts_rows:
        given["sample_weight"] = ops.broadcast_to(given["sample_weight"], shape_of(losses))
    factor = math.prod(given.values()) if given else 1
    total = ops.sum(losses * factor)
    if by_weights and (weights is not None or mask is not None):
        weight = ops.sum(factor)
    else:
        # Entries of weight 0 count, hidden ones do not. Each may have several values.
        shown = math.prod(x for name, x in given.items() if name != "sample_weight")
        weight = _size(losses)
        if mask is not None or present is not None:
            weight = weight * ops.cast(ops.sum(shown), "float32") / _size(shown)
    return ops.cast(total, "float32"), ops.cast(weight, "float32")


def _size(x):
    return ops.cast(ops.size(x), "float32")


def _cross_entropy(y_true, y_pred):
    return getattr(keras.losses, f"{label_kind(y_true, y_pred)}_crossentropy")(y_true, y_pred)


def _is_of_keras(loss):
    """Whether a loss is entirely from Keras. Other losses may give NaN labels a meaning."""
    return (loss.function if isinstance(loss, FunctionLoss) else type(loss)).__module__.split(".")[0] == "keras"
