"""Query heads that share key/value heads."""

from keras import ops

from keras_attn.ops.reshape_rows import reshape_rows


def repeat_heads(x, num_heads):
    """Each of the `K` heads of `x` `(B, K, S, H)`, `num_heads / K` times one behind another: `(B, num_heads, S, H)`."""
    num_kv_heads, width = x.shape[1], x.shape[-1]
    if num_kv_heads == num_heads:
        return x
    batch, _, length, _ = ops.shape(x)
    x = reshape_rows(x, batch, num_kv_heads, 1, length * width)
    return reshape_rows(ops.tile(x, (1, 1, num_heads // num_kv_heads, 1)), batch, num_heads, length, width)
