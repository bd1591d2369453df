"""Random numbers that depend on their keys only, in integer arithmetic that every export format supports.

Each of two streams permutes the residues of a prime by repeated cubing, shifted by the keys; the number is the sum of
both, modulo one. Products stay below `2 ** 31`.
"""

from keras import ops

from keras_attn.ops.arrays import add, axis_size, reshape, shape_of

# Cubing is a permutation of the residues of a prime `p` with `p % 3 == 2`.
_PRIMES = (46337, 46307)
_FACTORS = ((40503, 31337, 27583), (39119, 30011, 28657))


def row_keys(ids, mask):
    """One key per row, a function of its real tokens and their positions: two int32 `(B,)`, one per stream.

    Args:
        ids: Int32 `(B, S)`.
        mask: Bool `(B, S)`, False at padding.
    """
    ids = ops.cast(ids, "int32")
    places = ops.expand_dims(ops.arange(axis_size(ids, 1), dtype="int32"), 0)
    keys = []
    for prime, (factor, other, _) in zip(_PRIMES, _FACTORS, strict=True):
        mixed = _cube(_cube(_times(ids, factor, prime), prime) + _times(places, other, prime), prime)
        total = ops.sum(ops.where(mask, mixed, 0), axis=1)
        keys.append(ops.mod(total, prime))
    return tuple(keys)


def checksums(features):
    """Checksums, int32 `(B, S)`, of features `(B, S, ...)` rounded to multiples of 1/64, in exact arithmetic."""
    prime = _PRIMES[0]
    parts = ops.floor(ops.multiply(ops.clip(ops.cast(features, "float32"), -(2.0**14), 2.0**14), 64.0))
    parts = ops.mod(ops.cast(parts, "int32"), prime)
    parts = reshape(parts, (*shape_of(parts)[:2], -1))
    places = ops.arange(axis_size(parts, 2), dtype="int32")
    # Reduced further, since a sum of many numbers below the prime would overflow.
    return ops.mod(ops.sum(ops.mod(_cube(add(parts, _times(places, 31337, prime)), prime), 8191), axis=-1), prime)


def hashed_uniform(keys, step, seed, size):
    """Float32 `(B, size)` in (0, 1), the same for the same key, step and seed.

    Args:
        keys: Result of `row_keys`, possibly shifted.
        step, seed: Int32 scalars.
        size: Number of values per row, an int.
    """
    numbers = ops.expand_dims(ops.arange(size, dtype="int32"), 0)
    total = None
    for key, prime, (factor, other, third) in zip(keys, _PRIMES, _FACTORS, strict=True):
        row = _cube(add(key, _cube(_times(seed, third, prime) + 1, prime)), prime)
        row = ops.expand_dims(_cube(row + _times(step, factor, prime) + 1, prime), 1)
        mixed = _cube(_times(numbers, other, prime) + row, prime)
        mixed = _cube(mixed + _times(row, third, prime), prime)
        mixed = _cube(mixed + row, prime)
        part = ops.divide(add(ops.cast(mixed, "float32"), 0.5), float(prime))
        total = part if total is None else add(total, part)
    total = ops.where(ops.greater_equal(total, 1.0), total - 1.0, total)
    return ops.clip(total, 1e-7, 1.0 - 1e-7)


def _times(x, factor, prime):
    return ops.mod(ops.multiply(ops.mod(x, prime), factor), prime)


def _cube(x, prime):
    x = ops.mod(x, prime)
    return ops.mod(ops.multiply(ops.mod(ops.multiply(x, x), prime), x), prime)
