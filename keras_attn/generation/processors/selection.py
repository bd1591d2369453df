"""Tokens by number, as masks over the vocabulary."""

import numpy as np
from keras import ops

from keras_attn.generation.processors.logit_processor import BANNED


def is_one_of(ids, vocabulary_size):
    """bool `(V,)`, an array: True at each of the tuple `ids`."""
    return np.isin(np.arange(vocabulary_size), ids)


def is_token(token, vocabulary_size):
    """bool `(1, V)` or `(R, V)`: True at `token`, an int32 scalar or `(R, 1)`."""
    return ops.equal(ops.expand_dims(ops.arange(vocabulary_size, dtype="int32"), 0), token)


def certain(token, logits):
    """float32, broadcasts to `logits`: the log-probabilities of a `token` that there is no choice but."""
    return ops.where(is_token(token, logits.shape[-1]), 0.0, BANNED)


def keep_above(scores, threshold, logits):
    """`logits`, banned where `scores` are below `threshold`, `(R, 1)`."""
    return ops.where(ops.less(scores, threshold), BANNED, logits)


def mass_threshold(scores, probabilities, mass):
    """The lowest of the highest scores whose probabilities together reach `mass`.

    Args:
        scores: float32 `(R, V)`, falling.
        probabilities: float32 `(R, V)`, of the same tokens.
        mass: a float.

    Returns:
        float32 `(R, 1)`.
    """
    before = ops.subtract(ops.cumsum(probabilities, axis=-1), probabilities)
    return ops.min(ops.where(ops.less(before, mass), scores, scores[:, :1]), axis=-1, keepdims=True)
