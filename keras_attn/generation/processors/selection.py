"""Masks over the vocabulary, and operations on logits that respect banned tokens."""

import numpy as np
from keras import ops

from keras_attn.generation.processors.logit_processor import BANNED
from keras_attn.ops.arrays import add

# The smallest logit of a token that is not banned.
_LEAST = float(np.nextafter(np.float32(BANNED), np.float32(0)))


def is_one_of(ids, vocabulary_size):
    """NumPy bool `(V,)`, True at the tokens in the tuple `ids`."""
    return np.isin(np.arange(vocabulary_size), ids)


def is_token(token, vocabulary_size):
    """Bool `(1, V)` or `(R, V)`, True at `token`, an int32 scalar or `(R, 1)`."""
    return ops.equal(ops.expand_dims(ops.arange(vocabulary_size, dtype="int32"), 0), token)


def end_tokens(history):
    """The end tokens as int32 `(R, E)`, a state for `is_end`."""
    rows = ops.zeros_like(ops.cast(history.ids, "int32")[:, :1])
    return add(rows, ops.convert_to_tensor([history.end_ids], dtype="int32"))


def is_end(ends, vocabulary_size):
    """Bool `(R, V)`, True at the end tokens `ends`, int32 `(R, E)`."""
    return ops.any(is_token(ops.expand_dims(ends, 2), vocabulary_size), axis=1)


def forced_logits(token, logits):
    """Log-probabilities that force `token`; float32, broadcasts to `logits`."""
    return ops.where(is_token(token, logits.shape[-1]), 0.0, BANNED)


def bounded(logits):
    """Clips `logits` to finite numbers above `BANNED`, so that no other token counts as banned."""
    return ops.clip(logits, _LEAST, -BANNED)


def unless_banned(logits, values):
    """Replaces `logits` by `values`, but keeps banned tokens banned, and bans no others."""
    return ops.where(ops.greater(logits, BANNED), bounded(values), BANNED)


def log_probabilities(logits):
    """`log_softmax(logits)`, in which banned tokens keep `BANNED`."""
    return unless_banned(logits, ops.log_softmax(logits, axis=-1))


def in_float32(number):
    """Clips a number to 0 or the range of normal float32 numbers."""
    size = np.clip(abs(number), np.finfo("float32").tiny, -BANNED)
    return float(np.copysign(size, number)) if number else 0.0


def keep_above(scores, threshold, logits, least=1):
    """Bans tokens whose `scores` are below `threshold` `(R, 1)`, except the `least` highest and ties with these."""
    if least > 1:
        highest, _ = ops.top_k(scores, min(least, scores.shape[-1]))
        threshold = ops.minimum(threshold, highest[:, -1:])
    return ops.where(ops.less(scores, threshold), BANNED, logits)


def mass_threshold(scores, probabilities, mass):
    """The lowest score among the top tokens whose total probability reaches `mass`.

    Args:
        scores: Float32 `(R, V)`, in descending order.
        probabilities: Float32 `(R, V)`, of the same tokens.
        mass: A float, or a float32 scalar.

    Returns:
        Float32 `(R, 1)`.
    """
    before = ops.subtract(ops.cumsum(probabilities, axis=-1), probabilities)
    return ops.min(ops.where(ops.less(before, mass), scores, scores[:, :1]), axis=-1, keepdims=True)
