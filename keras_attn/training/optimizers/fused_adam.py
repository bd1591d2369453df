"""Adam with one TensorFlow operation per variable."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn import compat
from keras_attn.plain_numbers import plain
from keras_attn.typing import Nest, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class FusedAdam(compat.UpdateHooks, keras.optimizers.Adam):
    """`keras.optimizers.Adam` that updates each variable with one operation instead of about twenty.

    Arguments, weights, config and results are those of `keras.optimizers.Adam`. The scheduled learning rate and the
    bias corrections are computed once per step instead of once per variable.

    `IndexedSlices` are converted to dense gradients. (If a row occurs several times, as a token in a batch does, Keras
    sums the squares of its parts, and its step differs from that of the dense gradient.)

    Keras' own update is used with `amsgrad`, for variables that are not float32, and on backends other than TensorFlow.

    Args:
        **kwargs: Arguments of `keras.optimizers.Adam`.

    Reference:
        [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980)

    Example:

    >>> import keras
    >>> from keras_attn.training import FusedAdam
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> model.compile(FusedAdam(1e-3, beta_2=0.98, global_clipnorm=1.0), "mse")
    >>> isinstance(model.optimizer, keras.optimizers.Adam)
    True
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Keras does not accept a NumPy learning rate.
        super().__init__(*plain(args), **plain(kwargs))

    @property
    def decays_in_update_step(self) -> bool:
        """Whether `update_step` applies the weight decay. Keras would recompute the learning rate per variable."""
        return self._is_fused

    def prepared_rate(self, learning_rate: Tensor) -> Nest:
        """The learning rate, the powers for both bias corrections and the weight decay, for all `update_step` calls."""
        if not self._is_fused:
            return learning_rate
        rate = ops.cast(learning_rate, "float32")
        step = ops.cast(self.iterations + 1, "float32")
        powers = [ops.power(ops.cast(beta, "float32"), step) for beta in (self.beta_1, self.beta_2)]
        return rate, *powers, rate * (self.weight_decay or 0.0)

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Nest) -> None:
        """Updates one variable. `learning_rate` is the result of `prepared_rate`."""
        if not self._is_fused:
            return super().update_step(gradient, variable, learning_rate)
        import tensorflow as tf

        rate, beta_1_power, beta_2_power, decay = learning_rate
        if self.weight_decay and compat.is_decayed(self, variable):
            variable.assign_sub(variable * tf.cast(decay, variable.dtype))
        if variable.dtype != tf.float32:
            return super().update_step(gradient, variable, rate)
        if isinstance(gradient, tf.IndexedSlices):
            gradient = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
        m, v = compat.adam_moments(self, variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=beta_1_power,
            beta2_power=beta_2_power,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )

    @property
    def _is_fused(self):
        return keras.backend.backend() == "tensorflow" and not self.amsgrad
