"""Aligns labels, sample weights and masks with the entries of losses and metrics."""

import keras
from keras import ops

from keras_attn.ops.arrays import shape_of


def only(nest):
    """The leaf of a nest with a single one, such as a list or dict of a single output; else the nest itself."""
    leaves = keras.tree.flatten(nest)
    return leaves[0] if len(leaves) == 1 else nest


def same_rank(x, y):
    """Aligns the last axes of two tensors, as Keras does for labels and outputs, and for losses and weights.

    If one has an additional last axis of size 1, it is dropped, or added to the other if that has rank 1.
    """
    ranks = len(x.shape), len(y.shape)
    if ranks[0] == ranks[1] + 1 and x.shape[-1] == 1:
        return (x, ops.expand_dims(y, -1)) if ranks[1] == 1 else (ops.squeeze(x, -1), y)
    if ranks[1] == ranks[0] + 1 and y.shape[-1] == 1:
        return (ops.expand_dims(x, -1), y) if ranks[0] == 1 else (x, ops.squeeze(y, -1))
    return x, y


def aligned(x, rank):
    """An array or tensor `x` with `rank` axes, aligned at the first axis, so that values per row apply to rows.

    Missing axes are added at the end, and surplus last axes of size 1 are dropped.
    """
    while len(x.shape) > rank and x.shape[-1] == 1:
        x = x[..., 0]
    while len(x.shape) < rank:
        x = x[..., None]
    return x


def check_fits(name, x, shape, owner):
    """Raises a ValueError unless the known part of the shape of `x` broadcasts to `shape`, that of the `owner`."""
    fits = len(x.shape) == len(shape) and all(
        a in (1, b, None) or b is None for a, b in zip(x.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must have a value for each row, or for each of the {owner} of shape {tuple(shape)}. "
            f"Received: shape {tuple(x.shape)}"
        )


def entry_weights(real, sample_weight=None, mask=None):
    """The weight of each entry, float32 `(...)`, 0 for ignored entries.

    Args:
        real: Float32, 1 for entries that count and 0 for others.
        sample_weight: Optional float, one per row or entry.
        mask: Optional bool, the Keras mask of the outputs, one per row or entry.
    """
    for name, given in (("sample_weight", sample_weight), ("mask", mask)):
        if given is not None:
            given = aligned(ops.cast(given, "float32"), len(real.shape))
            check_fits(name, given, real.shape, "entries")
            real = real * given
    return real


def token_labels(y_true, y_pred):
    """Labels `(...)` for outputs `(..., V)`. A last axis of size 1 is dropped, as in Keras."""
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
    """Float32, 0 at labels in the tuple `ignored`, and 1 elsewhere."""
    real = ops.ones(shape_of(labels), dtype="float32")
    for label in ignored:
        real = real * ops.cast(ops.not_equal(labels, label), "float32")
    return real


def label_kind(y_true, y_pred):
    """Keras' choice for "accuracy" and "crossentropy": "binary", "sparse_categorical" or "categorical"."""
    if y_pred.shape[-1] == 1:
        return "binary"
    is_sparse = len(y_true.shape) < len(y_pred.shape) or (y_true.shape[-1] == 1 and y_pred.shape[-1] > 1)
    return "sparse_categorical" if is_sparse else "categorical"
