"""Connectionist temporal classification: the loss, and decoding."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attn import compat
from keras_attn.ops.arrays import axis_size, shape_of
from keras_attn.ops.boolean_mask import boolean
from keras_attn.ops.scan import scan
from keras_attn.typing import Array, Tensor

# The logarithm of next to nothing; differences of infinities would be NaN.
_NOTHING = -1e30


def ctc_losses(
    labels: Tensor, logits: Tensor, labels_mask: Tensor, mask: Tensor | None = None, blank_id: int = 0
) -> Tensor:
    """`-log sum_a p(a)` of each row, over all alignments `a` of its labels to its frames.

    An alignment assigns a class or the blank to every frame; merging repetitions and then dropping blanks gives the
    labels. Labels that need more frames than there are have no alignment; their loss is infinite.

    Args:
        labels: Integer `(B, U)`, classes other than the blank.
        logits: Float `(B, T, V)`; computed in float32 or float64.
        labels_mask: Bool `(B, U)`, False at padding, which must come after the labels.
        mask: Optional bool `(B, T)`, False at padding.
        blank_id: The class of the blank.

    Returns:
        Float `(B,)`.

    Reference:
        [Graves et al., 2006](https://www.cs.toronto.edu/~graves/icml_2006.pdf), section 4.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import ctc_losses
    >>> losses = ctc_losses(np.array([[1]]), np.zeros((1, 2, 2), "float32"), np.array([[True]]))
    >>> np.exp(-np.asarray(losses))
    array([0.75], dtype=float32)
    """
    dtype = keras.backend.result_type(logits.dtype, "float32")
    real = boolean("labels_mask", labels_mask)
    labels = ops.where(real, ops.cast(labels, "int32"), blank_id)
    rows, length = shape_of(labels)
    # Blanks before, between and after the labels: state `2 i + 1` is label `i`.
    blanks = ops.full_like(labels, blank_id)
    states = ops.reshape(ops.stack([blanks, labels], axis=-1), (rows, 2 * length))
    states = ops.pad(states, ((0, 0), (0, 1)), constant_values=blank_id)
    # A label may follow another one without a blank unless they are equal.
    follows = ops.pad(ops.not_equal(labels[:, 1:], labels[:, :-1]), ((0, 0), (1, 0)))[:, :length]
    skips = ops.reshape(ops.stack([ops.zeros_like(follows), follows], axis=-1), (rows, 2 * length))
    skips = ops.where(ops.pad(skips, ((0, 0), (0, 1))), ops.cast(0, dtype), ops.cast(_NOTHING, dtype))
    scores = ops.maximum(ops.log_softmax(ops.cast(logits, dtype), axis=-1), _NOTHING)
    shape = (rows, axis_size(logits, 1), 2 * length + 1)
    scores = ops.take_along_axis(scores, ops.broadcast_to(ops.expand_dims(states, 1), shape), axis=2)
    numbers = ops.arange(2 * length + 1, dtype="int32")[None]

    def only(states, values):
        return ops.where(states, values, ops.cast(_NOTHING, dtype))

    def step(score, state):
        one = ops.pad(state, ((0, 0), (1, 0)), constant_values=_NOTHING)[:, :-1]
        two = ops.pad(state, ((0, 0), (2, 0)), constant_values=_NOTHING)[:, :-2] + skips
        state = ops.logaddexp(ops.logaddexp(state, one), two) + score
        return state[:, :1], state

    # Before the first frame, nothing but the first blank has been left.
    start = only(ops.broadcast_to(numbers == 0, (rows, 2 * length + 1)), ops.zeros((), dtype))
    frames = None if mask is None else ops.transpose(boolean("mask", mask))
    _, state = scan(step, ops.transpose(scores, (1, 0, 2)), start, frames)
    ends = 2 * ops.sum(ops.cast(real, "int32"), axis=1, keepdims=True)
    losses = -ops.logsumexp(only(ops.logical_or(numbers == ends, numbers == ends - 1), state), axis=1)
    return ops.where(losses < -0.5 * _NOTHING, losses, float("inf"))


def ctc_greedy(logits: Tensor, mask: Tensor | None = None, blank_id: int = 0, pad_id: int = 0) -> Tensor:
    """The most likely class of each frame, with repetitions merged and blanks dropped. Exports to every format.

    Args:
        logits: Float `(B, T, V)`.
        mask: Optional bool `(B, T)`, False at padding. Defaults to the Keras mask of the logits.
        blank_id: The class of the blank.
        pad_id: What follows the ids of a row.

    Returns:
        Int32 `(B, T)`, ids on the left.

    Reference:
        [Graves et al., 2006](https://www.cs.toronto.edu/~graves/icml_2006.pdf), section 3.2

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import ctc_greedy
    >>> np.asarray(ctc_greedy(np.eye(4)[[[2, 2, 0, 2, 3]]]))
    array([[2, 2, 3, 0, 0]], dtype=int32)
    """
    mask = compat.keras_mask(logits) if mask is None else mask
    length, num_classes = axis_size(logits, 1), logits.shape[-1]
    # The argmax of integers, as that of floats has no TFLite operator.
    best = ops.cast(ops.equal(logits, ops.max(logits, axis=-1, keepdims=True)), "int32")
    best = ops.cast(ops.argmax(best, axis=-1), "int32")
    previous = ops.pad(best, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    keep = ops.logical_and(ops.not_equal(best, blank_id), ops.not_equal(best, previous))
    if mask is not None:
        keep = ops.logical_and(keep, boolean("mask", mask))
    # Sorted, these numbers hold the kept ids in the order of time, before all others.
    numbers = (ops.arange(length, dtype="int32") - length) * num_classes - num_classes + best
    numbers = ops.sort(ops.where(keep, numbers, ops.zeros_like(numbers)), axis=-1)
    return ops.where(numbers < 0, ops.mod(numbers + (length + 1) * num_classes, num_classes), pad_id)


def ctc_beam_search(
    logits: Array, mask: Array | None = None, num_beams: int = 8, blank_id: int = 0
) -> list[tuple[tuple[int, ...], float]]:
    """The most likely ids of each row by prefix beam search, in NumPy.

    Adds up the probabilities of all alignments of an id sequence, which `ctc_greedy` does not.

    Args:
        logits: Float `(B, T, V)`.
        mask: Optional bool `(B, T)`, False at padding.
        num_beams: Number of prefixes that are kept after each frame.
        blank_id: The class of the blank.

    Returns:
        For each row, `(ids, logarithm of their probability)`; exact with enough beams, else a lower bound.

    Reference:
        [Hannun et al., 2014](https://arxiv.org/abs/1408.2873), algorithm 1, without a language model

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import ctc_beam_search
    >>> probabilities = np.array([[[0.6, 0.4], [0.6, 0.4]]])
    >>> [(ids, score)] = ctc_beam_search(np.log(probabilities))
    >>> ids, round(float(np.exp(score)), 2)
    ((1,), 0.64)
    """
    logits = np.asarray(keras.ops.convert_to_numpy(logits), "float64")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    rows = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    real = np.ones(rows.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    return [_search(row[frames], num_beams, blank_id) for row, frames in zip(rows, real, strict=True)]


def _search(frames, num_beams, blank_id):
    # The probabilities of a prefix whose last frame is a blank, and is its last id.
    beams = {(): (0.0, -np.inf)}
    for frame in frames:
        found = {}

        def add(prefix, ends_with_blank, score, found=found):
            scores = list(found.get(prefix, (-np.inf, -np.inf)))
            place = 0 if ends_with_blank else 1
            scores[place] = np.logaddexp(scores[place], score)
            found[prefix] = tuple(scores)

        for prefix, (blank, label) in beams.items():
            total = np.logaddexp(blank, label)
            add(prefix, True, total + frame[blank_id])
            for token, score in enumerate(frame):
                if token == blank_id:
                    continue
                repeats = prefix[-1:] == (token,)
                if repeats:
                    add(prefix, False, label + score)
                # After its own last id, a prefix only grows over a blank.
                add((*prefix, token), False, (blank if repeats else total) + score)
        best = sorted(found, key=lambda prefix, found=found: -np.logaddexp(*found[prefix]))
        beams = {prefix: found[prefix] for prefix in best[:num_beams]}
    prefix, scores = max(beams.items(), key=lambda item: np.logaddexp(*item[1]))
    return prefix, float(np.logaddexp(*scores))
