"""Key/value caches: plain tensors `(B, K, M, H)`, in which a token's slot is its position.

How new keys enter a cache depends on where the graph will run, so the policy is chosen around the trace with `writing`:

* `"select"` (default): compare and choose. Any positions, every runtime.
* `"slice"`: one in-place slice update where all rows are at the same, consecutive positions `(1, T)`; fastest in XLA,
  SavedModel and TFLite. With positions a row, `(B, T)`, it is `"select"`.
* `"concat"`: the update is appended, the cache grows. For step models that hand the cache to their caller.
"""

import contextlib
import contextvars

from keras import ops


def empty(batch, length, heads, dim, dtype):
    """A `(key, value)` pair of zeros, each `(batch, heads, length, dim)`.

    Args:
        batch: int or scalar tensor.
        length: number of slots `M`.
        heads: number of key/value heads `K`.
        dim: head width `H`, or a pair where keys and values differ.
        dtype: dtype of both.

    Example:

    >>> from keras_attn.ops import cache
    >>> key, value = cache.empty(2, 16, 4, 8, "float32")
    >>> tuple(key.shape)
    (2, 4, 16, 8)
    """
    key_dim, value_dim = dim if isinstance(dim, tuple) else (dim, dim)
    return (
        ops.zeros((batch, heads, length, key_dim), dtype=dtype),
        ops.zeros((batch, heads, length, value_dim), dtype=dtype),
    )


def write(buffer, update, positions):
    """Returns `buffer` with `update` in the slots that `positions` name, by the policy in force.

    Args:
        buffer: `(B, K, M, H)`.
        update: `(B, K, T, H)`.
        positions: int32 `(B, T)` or `(1, T)`. A position of `M` or more is not written.

    Returns:
        Tensor of `buffer`'s shape; under `"concat"`, `(B, K, M + T, H)`.
    """
    return _POLICIES[_policy.get()](buffer, ops.cast(update, buffer.dtype), positions)


@contextlib.contextmanager
def writing(policy):
    """Within the scope, `write` follows `policy`: "select", "slice" or "concat".

    Raises:
        ValueError: there is no such policy.
    """
    if policy not in _POLICIES:
        raise ValueError(f"`policy` must be one of {sorted(_POLICIES)}. Received: policy={policy!r}")
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)


def policy():
    """The name of the policy in force."""
    return _policy.get()


def _write_by_slice(buffer, update, positions):
    if positions.shape[0] != 1:
        return _write_by_select(buffer, update, positions)
    start = ops.cast(positions[0, 0], "int32")
    return ops.slice_update(buffer, (0, 0, start, 0), update)


def _write_by_select(buffer, update, positions):
    slots = ops.arange(buffer.shape[2] or ops.shape(buffer)[2], dtype="int32")
    if update.shape[2] == 1:
        hit = ops.equal(positions, slots)
    else:
        # (B, T, M): which update, if any, belongs in each slot.
        match = ops.equal(ops.expand_dims(positions, -1), slots)
        hit = ops.any(match, axis=1)
        source = ops.argmax(ops.cast(match, "int32"), axis=1)
        source = ops.expand_dims(ops.expand_dims(source, 1), -1)
        update = ops.take_along_axis(update, source, axis=2)
    return ops.where(ops.expand_dims(ops.expand_dims(hit, 1), -1), update, buffer)


def _write_by_concat(buffer, update, positions):
    return ops.concatenate([buffer, update], axis=2)


_POLICIES = {"select": _write_by_select, "slice": _write_by_slice, "concat": _write_by_concat}
_policy = contextvars.ContextVar("keras_attn_cache_policy", default="select")
