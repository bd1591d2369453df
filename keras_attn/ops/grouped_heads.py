"""Query heads that share key/value heads."""

from keras import ops


def repeat_heads(x, num_heads):
    """Each of the `K` heads of `x` `(B, K, S, H)`, `num_heads / K` times one behind another: `(B, num_heads, S, H)`."""
    num_kv_heads, width = x.shape[1], x.shape[-1]
    if num_kv_heads == num_heads:
        return x
    length = x.shape[2] or ops.shape(x)[2]
    x = ops.reshape(x, (-1, num_kv_heads, 1, length * width))
    return ops.reshape(ops.tile(x, (1, 1, num_heads // num_kv_heads, 1)), (-1, num_heads, length, width))
