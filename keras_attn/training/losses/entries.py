"""What counts in a loss or a metric, and how much: labels, weights and masks, one for each entry."""

import keras
from keras import ops


def only(nest):
    """The one leaf of a nest, such as a list or a dict of the one output that a model has; else the nest itself."""
    leaves = keras.tree.flatten(nest)
    return leaves[0] if len(leaves) == 1 else nest


def same_rank(x, y):
    """Two tensors whose last axes are made to agree, as Keras does for labels and outputs, and for losses and weights.

    Where one has an axis of one more at its end, it is dropped, or added to the other if that has no axis but the rows.
    """
    ranks = len(x.shape), len(y.shape)
    if ranks[0] == ranks[1] + 1 and x.shape[-1] == 1:
        return (x, ops.expand_dims(y, -1)) if ranks[1] == 1 else (ops.squeeze(x, -1), y)
    if ranks[1] == ranks[0] + 1 and y.shape[-1] == 1:
        return (ops.expand_dims(x, -1), y) if ranks[0] == 1 else (x, ops.squeeze(y, -1))
    return x, y


def aligned(x, rank):
    """An array or a tensor `x` with `rank` axes: the first are its own, so that what has rows alone counts for rows.

    Axes that it lacks are added at the end, and one there that it has too many is dropped where its size is one.
    """
    while len(x.shape) > rank and x.shape[-1] == 1:
        x = x[..., 0]
    while len(x.shape) < rank:
        x = x[..., None]
    return x


def check_fits(name, x, shape, owner):
    """Raises a ValueError unless `x`, as far as its shape is known, broadcasts to `shape`, that of the `owner`."""
    fits = len(x.shape) == len(shape) and all(
        a in (1, b, None) or b is None for a, b in zip(x.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must have a value for each row, or for each of the {owner} of shape {tuple(shape)}. "
            f"Received: shape {tuple(x.shape)}"
        )


def entry_weights(real, sample_weight=None, mask=None):
    """Float32 `(...)`, the weight of each entry: 0 where it does not count.

    Args:
        real: float32, 1 where an entry counts and 0 where not.
        sample_weight: optional float, one for each row or entry.
        mask: optional bool, the Keras mask of the outputs, for each row or entry.
    """
    for name, given in (("sample_weight", sample_weight), ("mask", mask)):
        if given is not None:
            given = aligned(ops.cast(given, "float32"), len(real.shape))
            check_fits(name, given, real.shape, "entries")
            real = real * given
    return real


def token_labels(y_true, y_pred):
    """Labels `(...)` for outputs `(..., V)`; an axis of one at the end of the labels is dropped, as Keras does."""
    labels = ops.convert_to_tensor(y_true)
    if len(labels.shape) == len(y_pred.shape) and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    if len(labels.shape) != len(y_pred.shape) - 1:
        raise ValueError(
            f"`y_true` must hold one id for each of the outputs of shape {tuple(y_pred.shape)}, without their last "
            f"axis or with one of 1. Received: y_true.shape={tuple(labels.shape)}"
        )
    return labels


def real_tokens(labels, ignored):
    """Float32, 1 where a label counts and 0 where it is one of the tuple `ignored`."""
    real = ops.ones(ops.shape(labels), dtype="float32")
    for label in ignored:
        real = real * ops.cast(ops.not_equal(labels, label), "float32")
    return real


def label_kind(y_true, y_pred):
    """What "accuracy" and "crossentropy" stand for, as Keras decides: "binary", "sparse_categorical", "categorical"."""
    if y_pred.shape[-1] == 1:
        return "binary"
    is_sparse = len(y_true.shape) < len(y_pred.shape) or (y_true.shape[-1] == 1 and y_pred.shape[-1] > 1)
    return "sparse_categorical" if is_sparse else "categorical"
