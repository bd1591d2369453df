"""Products with quantised tables."""

from keras import ops


def quantized_product(x, table, scale, quantizer=None):
    """`x table / scale`, with `x` rounded as well where a quantizer is given; its gradient is that without rounding.

    Args:
        x: float `(..., D)`.
        table: int8 or float `(D, V)`.
        scale: float `(V,)`.
        quantizer: optional `keras.quantizers.Quantizer` of `x`.

    Returns:
        Float `(..., V)`, dtype of `x`.
    """
    scale = ops.cast(scale, x.dtype)
    if quantizer is None:
        return ops.divide(ops.cast(ops.matmul(x, table), x.dtype), scale)

    @ops.custom_gradient
    def product(x, table, scale):
        levels, x_scale = quantizer(x)
        y = ops.cast(ops.matmul(levels, table), x.dtype)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return ops.matmul(upstream, ops.transpose(ops.divide(ops.cast(table, x.dtype), scale))), None, None

        return ops.divide(y, ops.multiply(ops.cast(x_scale, x.dtype), scale)), gradient

    return product(x, ops.convert_to_tensor(table), scale)
