"""Weights of monotonic attention, which only moves forward."""

from __future__ import annotations

from keras import ops

from keras_attn.ops.arrays import axis_size
from keras_attn.ops.boolean_mask import boolean
from keras_attn.ops.sigmoid import sigmoid
from keras_attn.typing import Tensor

# exp(69) is 1e30, well inside the range of float32.
LIMIT = 69.0


def soft_monotonic(energies: Tensor, previous: Tensor, mask: Tensor | None = None, exact: bool = True) -> Tensor:
    """The expected weights of a scan that starts at `previous` and stops at key `j` with `p_j = sigmoid(energies_j)`.

    `a_j = p_j q_j` with `q_j = (1 - p_j-1) q_j-1 + previous_j`, the probability that the scan comes to key `j`.

    The recursion is computed for all keys at once, in `ceil(log2(S))` doubling steps, also in the gradient: `S log(S)`
    work, and exact up to rounding for any energies.

    With `exact=False` it is `q_j = c_j cumsum(previous / c)_j` with `c_j = prod_l<j (1 - p_l)`, as in the paper: two
    cumulative sums. If `c` falls below 1e-30, the weight of the previous query after that key is lost: with energies of
    standard deviation 10, a fifth of all weight after twelve queries. On two CPU cores, `MonotonicAttention` took the
    same time either way for a static `S`; for a dynamic one, sums took half the time, and two thirds in training.

    Args:
        energies: Float `(..., S)`, float32 or float64.
        previous: Float `(..., S)`, the weights of the last query.
        mask: Optional bool that broadcasts to `energies`; the scan does not stop at keys that are False.
        exact: Whether to compute the recursion itself.

    Returns:
        Tensor of `energies`' shape.

    Raises:
        ValueError: If `mask` is a float tensor.

    Reference:
        [Raffel et al., 2017](https://arxiv.org/abs/1704.00784), equation 9 and appendix C.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import soft_monotonic
    >>> np.asarray(soft_monotonic(np.zeros((1, 3), "float32"), np.array([[1.0, 0.0, 0.0]], "float32")))
    array([[0.5  , 0.25 , 0.125]], dtype=float32)
    """
    energies, mask = ops.convert_to_tensor(energies), boolean("mask", mask)
    previous = ops.cast(previous, energies.dtype)
    stop = sigmoid(energies)
    if mask is not None:
        stop = ops.where(mask, stop, ops.zeros_like(stop))
    reached = _reached if exact else _reached_by_sums
    return ops.multiply(stop, reached(energies, previous, mask))


def _reached(energies, previous, mask):
    # Not 1 - sigmoid(e), which rounds to zero.
    walk_on = sigmoid(ops.negative(energies))
    if mask is not None:
        walk_on = ops.where(mask, walk_on, ops.ones_like(walk_on))
    return _recurrence(_moved(walk_on, 1), previous + ops.zeros_like(walk_on))


@ops.custom_gradient
def _recurrence(decay, x):
    """`y_j = decay_j y_j-1 + x_j`; its gradient is the same recurrence in reverse."""
    y = _doubled(decay, x)

    def gradient(*upstream, **named):
        (upstream,) = upstream or named.values()
        to_x = _doubled(_moved(decay, -1), upstream, direction=-1)
        return to_x * _moved(y, 1), to_x

    return y, gradient


def _doubled(decay, y, direction=1):
    """The recurrence by steps of doubling length."""
    shift, length = direction, y.shape[-1]
    if length is None:
        return _doubled_in_loop(decay, y, direction)
    while abs(shift) < length:
        y = y + decay * _moved(y, shift)
        decay = decay * _moved(decay, shift)
        shift *= 2
    return y


def _doubled_in_loop(decay, y, direction):
    length = axis_size(y, -1)
    places = ops.arange(length, dtype="int32")

    def step(shift, decay, y):
        source = places - direction * shift
        inside = ops.cast(ops.logical_and(source >= 0, source < length), y.dtype)
        source = ops.clip(source, 0, length - 1)
        earlier, earlier_decay = (ops.take(x, source, axis=-1) * inside for x in (y, decay))
        return shift * 2, decay * earlier_decay, y + decay * earlier

    # XLA needs a maximum number of iterations for the gradient; lengths are int32.
    start = ops.ones((), dtype="int32"), decay, y
    return ops.while_loop(lambda shift, *_: ops.less(shift, length), step, start, maximum_iterations=31)[-1]


def _reached_by_sums(energies, previous, mask):
    # The logarithm of 1 - sigmoid(e), more exact than that of 1 - p. TFLite has a cumulative sum, but no product.
    walk_on = ops.negative(ops.softplus(energies))
    # Keys that the scan has not reached do not matter, and would use up the range of floats.
    passed = ops.greater(ops.cumsum(previous, axis=-1), 1e-7)
    if mask is not None:
        passed = ops.logical_and(passed, mask)
    reached = _sum_before(ops.where(passed, walk_on, ops.zeros_like(walk_on)))
    # A product of exponentials, since the gradient of a quotient would leave the range.
    arrivals = ops.cumsum(ops.multiply(previous, ops.exp(ops.minimum(ops.negative(reached), LIMIT))), axis=-1)
    return ops.multiply(ops.exp(reached), arrivals)


def hard_monotonic(energies: Tensor, previous: Tensor, mask: Tensor | None = None) -> Tensor:
    """The weights of a scan that starts at the one in `previous` and stops at the first key with `energies > 0`.

    Args:
        energies: Float `(..., S)`, float32 or float64.
        previous: Float `(..., S)`, the weights of the last query.
        mask: Optional bool that broadcasts to `energies`; the scan does not stop at keys that are False.

    Returns:
        Tensor of the shape of `energies`: one at the key where the scan stops, if any, else zero.

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import hard_monotonic
    >>> np.asarray(hard_monotonic(np.array([[1.0, -1.0, 1.0, 1.0]]), np.array([[0.0, 1.0, 0.0, 0.0]])))
    array([[0., 0., 1., 0.]])
    """
    stop = ops.greater(energies, 0)
    if mask is not None:
        stop = ops.logical_and(stop, boolean("mask", mask))
    stop = ops.multiply(ops.cast(stop, energies.dtype), ops.cumsum(previous, axis=-1))
    return ops.multiply(stop, ops.cast(ops.less(_sum_before(stop), 0.5), energies.dtype))


def _sum_before(x):
    """The sum of all earlier entries, computed without the entry itself and its rounding."""
    return ops.cumsum(_moved(x, 1), axis=-1)


def _moved(x, places):
    """`x` shifted by `places`, backwards if negative, and filled with zeros."""
    if places > 0:
        return ops.concatenate([ops.zeros_like(x[..., :places]), x[..., :-places]], axis=-1)
    return ops.concatenate([x[..., -places:], ops.zeros_like(x[..., :-places])], axis=-1)
