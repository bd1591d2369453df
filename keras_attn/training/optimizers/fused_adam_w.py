"""AdamW with few TensorFlow operations per variable."""

import keras

from keras_attn.training.optimizers.fused_adam import FusedAdam


@keras.saving.register_keras_serializable(package="keras_attn")
class FusedAdamW(FusedAdam, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` that updates each variable with the operation of `FusedAdam`, after the weight decay.

    Arguments, weights, config and results are those of `keras.optimizers.AdamW`.

    Args:
        **kwargs: Arguments of `keras.optimizers.AdamW`.

    Reference:
        [Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101)

    Example:

    >>> import keras
    >>> from keras_attn.training import FusedAdamW
    >>> optimizer = FusedAdamW(1e-3, weight_decay=0.01)
    >>> optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    >>> isinstance(optimizer, keras.optimizers.AdamW)
    True
    """
