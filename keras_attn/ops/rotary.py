"""Rotary position embedding."""

import numpy as np
from keras import ops


def rotary(x, positions, *, base=10000.0, rotary_dim=None, interleaved=False):
    """Rotates pairs of channels by an angle proportional to the position.

    Channel pair `i` at position `p` turns by `p * base^(-2i / rotary_dim)`, so that the dot product of a rotated query
    and a rotated key depends on the difference of their positions only.

    Args:
        x: float `(B, N, T, H)`.
        positions: int or float `(B, T)` or `(1, T)`.
        base: the slowest rotation's scale.
        rotary_dim: how many leading channels take part, even; all where None.
        interleaved: whether pair `i` is channels `(2i, 2i + 1)`, as in RoFormer and GPT-J, rather than
            `(i, i + rotary_dim / 2)`, as in Llama and GPT-NeoX.

    Returns:
        Tensor of `x`'s shape and dtype. Angles are computed in float32.

    Reference:
        [Su et al., 2021](https://arxiv.org/abs/2104.09864)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import rotary
    >>> tuple(rotary(np.ones((2, 3, 5, 8), "float32"), np.arange(5)[None]).shape)
    (2, 3, 5, 8)
    """
    width = x.shape[-1]
    rotary_dim = width if rotary_dim is None else rotary_dim
    half = rotary_dim // 2
    frequencies = (base ** (-np.arange(half, dtype="float64") / half)).astype("float32")
    angles = ops.expand_dims(ops.expand_dims(ops.cast(positions, "float32"), 1), -1) * frequencies
    cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    rotated, rest = (x, None) if rotary_dim == width else (x[..., :rotary_dim], x[..., rotary_dim:])
    if interleaved:
        first, second = rotated[..., ::2], rotated[..., 1::2]
    else:
        first, second = rotated[..., :half], rotated[..., half:]
    turned = [first * cos - second * sin, second * cos + first * sin]
    if interleaved:
        rotated = ops.reshape(ops.stack(turned, axis=-1), ops.shape(rotated))
        return rotated if rest is None else ops.concatenate([rotated, rest], axis=-1)
    return ops.concatenate(turned if rest is None else [*turned, rest], axis=-1)
