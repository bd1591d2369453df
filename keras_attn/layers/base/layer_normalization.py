"""Layer normalisation with fewer operations than Keras' own."""

import keras
from keras import ops

from keras_attn.ops.arrays import add
from keras_attn.plain_numbers import PlainNumbers


@keras.saving.register_keras_serializable(package="keras_attn")
class LayerNormalization(PlainNumbers, keras.layers.LayerNormalization):
    """`(x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta` over the last axis.

    `keras.layers.LayerNormalization` with the same weights and results, but with nine operations instead of eleven,
    five of them on whole tensors instead of six. Exported graphs run these one by one.

    Args:
        epsilon: Added to the variance.
        axis: Must be -1, the last axis.
        rms_scaling: Must be False; use `keras.layers.RMSNormalization` to divide by the root mean square.
        **kwargs: All other arguments of `keras.layers.LayerNormalization`: `center`, `scale`, initializers,
            regularizers and constraints of `beta` and `gamma`.

    Call arguments:
        inputs: Float `(B, ..., D)`; statistics are computed in float32 or float64.

    Returns:
        Float, the shape of the inputs.

    Raises:
        ValueError: If `axis` or `rms_scaling` has another value.

    Reference:
        [Ba et al., 2016](https://arxiv.org/abs/1607.06450)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers.base.layer_normalization import LayerNormalization
    >>> np.asarray(LayerNormalization()(np.array([[1.0, 3.0]]))).round(2)
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, epsilon=1e-3, *, axis=-1, rms_scaling=False, **kwargs):
        if axis not in (-1, [-1], (-1,)):
            raise ValueError(
                f"`axis` must be -1; use `keras.layers.LayerNormalization` for others. Received: axis={axis!r}"
            )
        if rms_scaling:
            raise ValueError(
                "`rms_scaling` must be False; use `keras.layers.RMSNormalization` instead. "
                f"Received: rms_scaling={rms_scaling!r}"
            )
        super().__init__(axis=-1, epsilon=epsilon, **kwargs)

    def call(self, inputs):
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        x = ops.cast(inputs, dtype)
        centered = ops.subtract(x, ops.mean(x, axis=-1, keepdims=True))
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        x = ops.multiply(centered, ops.rsqrt(add(variance, self.epsilon)))
        if self.gamma is not None:
            x = ops.multiply(x, ops.cast(self.gamma, dtype))
        if self.beta is not None:
            x = add(x, ops.cast(self.beta, dtype))
        return ops.cast(x, self.compute_dtype)

    def get_config(self):
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("axis", "rms_scaling")}
