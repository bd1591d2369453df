"""Tokens by number, as masks over the vocabulary, and logits of which some are banned."""

import numpy as np
from keras import ops

from keras_attn.generation.processors.logit_processor import BANNED
from keras_attn.ops.arrays import add

# Of what is not banned.
_LEAST = float(np.nextafter(np.float32(BANNED), np.float32(0)))


def is_one_of(ids, vocabulary_size):
    """bool `(V,)`, an array: True at each of the tuple `ids`."""
    return np.isin(np.arange(vocabulary_size), ids)


def is_token(token, vocabulary_size):
    """bool `(1, V)` or `(R, V)`: True at `token`, an int32 scalar or `(R, 1)`."""
    return ops.equal(ops.expand_dims(ops.arange(vocabulary_size, dtype="int32"), 0), token)


def end_tokens(history):
    """int32 `(R, E)`: the end tokens, a state for `is_end`."""
    rows = ops.zeros_like(ops.cast(history.ids, "int32")[:, :1])
    return add(rows, ops.convert_to_tensor([history.end_ids], dtype="int32"))


def is_end(ends, vocabulary_size):
    """bool `(R, V)`: True at each of `ends`, int32 `(R, E)`."""
    return ops.any(is_token(ops.expand_dims(ends, 2), vocabulary_size), axis=1)


def certain(token, logits):
    """float32, broadcasts to `logits`: the log-probabilities of a `token` that there is no choice but."""
    return ops.where(is_token(token, logits.shape[-1]), 0.0, BANNED)


def bounded(logits):
    """`logits` as finite numbers above `BANNED`, so that none that was not banned counts as such."""
    return ops.clip(logits, _LEAST, -BANNED)


def unless_banned(logits, values):
    """`values` instead of `logits`, except for banned ones, which stay banned; no other becomes so."""
    return ops.where(ops.greater(logits, BANNED), bounded(values), BANNED)


def log_probabilities(logits):
    """`log_softmax(logits)`, with `BANNED` for what is banned."""
    return unless_banned(logits, ops.log_softmax(logits, axis=-1))


def in_float32(number):
    """A float of a setting, 0 or in the range of float32's normal numbers."""
    size = np.clip(abs(number), np.finfo("float32").tiny, -BANNED)
    return float(np.copysign(size, number)) if number else 0.0


def keep_above(scores, threshold, logits, least=1):
    """`logits`, banned where `scores` are below `threshold`, `(R, 1)`, but for the `least` highest; ties stay too."""
    if least > 1:
        highest, _ = ops.top_k(scores, min(least, scores.shape[-1]))
        threshold = ops.minimum(threshold, highest[:, -1:])
    return ops.where(ops.less(scores, threshold), BANNED, logits)


def mass_threshold(scores, probabilities, mass):
    """The lowest of the highest scores whose probabilities together reach `mass`.

    Args:
        scores: float32 `(R, V)`, falling.
        probabilities: float32 `(R, V)`, of the same tokens.
        mass: a float, or a float32 scalar.

    Returns:
        float32 `(R, 1)`.
    """
    before = ops.subtract(ops.cumsum(probabilities, axis=-1), probabilities)
    return ops.min(ops.where(ops.less(before, mass), scores, scores[:, :1]), axis=-1, keepdims=True)
