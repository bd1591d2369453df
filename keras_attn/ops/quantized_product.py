"""Product with a quantised table."""

from keras import ops


def quantized_product(x, table, scale, quantizer=None):
    """`x table / scale`; a quantizer rounds `x` as well, with the gradient of the product without rounding.

    Args:
        x: Float `(..., D)`.
        table: Int8 or float `(D, V)`.
        scale: Float `(V,)`.
        quantizer: Optional `keras.quantizers.Quantizer` of `x`.

    Returns:
        Float `(..., V)`, in the dtype of `x`.
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
