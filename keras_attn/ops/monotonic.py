"""Weights of an attention that only moves forward."""

from keras import ops

# exp(69) is 1e30, well inside the range of float32.
LIMIT = 69.0


def soft_monotonic(energies, previous, mask=None):
    """The expected weights of a walk that starts at `previous` and stops at key `j` with `p_j = sigmoid(energies_j)`.

    `a_j = p_j q_j cumsum(previous / q)_j`, where `q_j = prod_l<j (1 - p_l)` runs over the keys that the last query may
    have reached. Where `q` falls under 1e-30, what the last query left beyond is lost.

    Args:
        energies: float `(..., S)`, float32 or float64.
        previous: float `(..., S)`, the weights of the last query.
        mask: optional bool that broadcasts to `energies`; the walk does not stop where it is False.

    Returns:
        Tensor of `energies`' shape.

    Reference:
        [Raffel et al., 2017](https://arxiv.org/abs/1704.00784), appendix C.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import soft_monotonic
    >>> np.asarray(soft_monotonic(np.zeros((1, 3), "float32"), np.array([[1.0, 0.0, 0.0]], "float32")))
    array([[0.5  , 0.25 , 0.125]], dtype=float32)
    """
    stop = ops.sigmoid(energies)
    # The logarithm of 1 - sigmoid(e), exact where 1 - p is not. TFLite has a cumulative sum, but no product.
    walk_on = ops.negative(ops.softplus(energies))
    # Where nobody was, it does not matter who would have walked on; it would only use up the range of floats.
    passed = ops.greater(ops.cumsum(previous, axis=-1), 1e-7)
    if mask is not None:
        stop = ops.where(mask, stop, ops.zeros_like(stop))
        passed = ops.logical_and(passed, mask)
    reached = _sum_before(ops.where(passed, walk_on, ops.zeros_like(walk_on)))
    # Powers of both signs, in place of a quotient, whose gradient would leave the range.
    arrivals = ops.cumsum(ops.multiply(previous, ops.exp(ops.minimum(ops.negative(reached), LIMIT))), axis=-1)
    return ops.multiply(ops.multiply(stop, ops.exp(reached)), arrivals)


def hard_monotonic(energies, previous, mask=None):
    """The weights of a walk that starts at `previous`, all zeros and a one, and stops where `energies > 0`.

    Args:
        energies: float `(..., S)`, float32 or float64.
        previous: float `(..., S)`, the weights of the last query.
        mask: optional bool that broadcasts to `energies`; the walk does not stop where it is False.

    Returns:
        Tensor of `energies`' shape: a one where the walk stops, or none.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import hard_monotonic
    >>> np.asarray(hard_monotonic(np.array([[1.0, -1.0, 1.0, 1.0]]), np.array([[0.0, 1.0, 0.0, 0.0]])))
    array([[0., 0., 1., 0.]])
    """
    stop = ops.greater(energies, 0)
    if mask is not None:
        stop = ops.logical_and(stop, mask)
    stop = ops.multiply(ops.cast(stop, energies.dtype), ops.cumsum(previous, axis=-1))
    return ops.multiply(stop, ops.cast(ops.less(_sum_before(stop), 0.5), energies.dtype))


def _sum_before(x):
    """The sum of all that stands before each position, which does not suffer from what stands there."""
    return ops.cumsum(ops.concatenate([ops.zeros_like(x[..., :1]), x[..., :-1]], axis=-1), axis=-1)
