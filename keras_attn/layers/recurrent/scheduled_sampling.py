"""Scheduled sampling."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.serialization import deserialized
from keras_attn.ops.arrays import axis_size, reshape, shape_of
from keras_attn.ops.seeds import FixedSeed
from keras_attn.typing import Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ScheduledSampling(Configurable, keras.layers.Layer):
    """In training, replaces each decoder input token with probability `p` by a sample from the model's logits.

    Token `t` becomes a sample from `softmax(logits[t - 1])`; the first token is kept. No gradient flows through the
    samples. In inference, tokens are unchanged.

    `Seq2SeqRNN(scheduled_sampling=...)` samples token by token, with logits that depend on earlier samples. Called
    directly, the layer takes the logits of a first pass over all tokens, which suits Transformers.

    Args:
        probability: Float `p` in [0, 1], or a `keras.optimizers.schedules.LearningRateSchedule` of the number of
            training calls so far. These are counted in a weight, so a resumed training run continues the schedule.
        seed: Random seed.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Int32 `(B, T)`, the input tokens of the decoder.
        logits: Float `(B, T, V)`, the model's next-token logits for `inputs`.
        training: Whether to replace tokens.

    Returns:
        Int32 `(B, T)`.

    Raises:
        ValueError: If `probability` is neither in [0, 1] nor a schedule, or the shapes do not fit.

    Reference:
        [Bengio et al., 2015](https://arxiv.org/abs/1506.03099); logits of a first pass
        [Mihaylova and Martins, 2019](https://arxiv.org/abs/1906.07651)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import ScheduledSampling
    >>> logits = 1e6 * np.eye(9, dtype="float32")[np.array([[5, 6, 7]])]
    >>> np.asarray(ScheduledSampling(1.0)(np.array([[2, 3, 4]]), logits, training=True))
    array([[2, 5, 6]], dtype=int32)
    """

    def __init__(
        self,
        probability: float | keras.optimizers.schedules.LearningRateSchedule,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        probability = deserialized(probability)
        self._follows_schedule = isinstance(probability, keras.optimizers.schedules.LearningRateSchedule)
        is_number = isinstance(probability, int | float) and 0 <= probability <= 1
        if not self._follows_schedule and not is_number:
            raise ValueError(
                "`probability` must be in [0, 1], or a `keras.optimizers.schedules.LearningRateSchedule`. "
                f"Received: probability={probability!r}"
            )
        super().__init__(**kwargs)
        self.probability, self.seed = probability, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, inputs_shape: Shape | None = None, logits_shape: Shape | None = None) -> None:
        if self._follows_schedule:
            self.calls = self.add_weight(
                name="calls",
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
            )

    def draw(self, ids: Tensor) -> tuple[Tensor, Any]:
        """Draws the tokens to replace in `ids` `(B, T)`; counts as one call for the schedule.

        Returns:
            `(replaced, seed)`: bool `(B, T)`, and a `FixedSeed` with `at(t)` for the token at position `t`.
        """
        probability = self.probability
        if self._follows_schedule:
            probability = ops.cast(probability(self.calls.value), "float32")
            self.calls.assign(self.calls + 1)
        chance = keras.random.uniform(shape_of(ids), dtype="float32", seed=self.seed_generator)
        later = ops.expand_dims(ops.arange(axis_size(ids, 1)), 0) > 0
        return ops.logical_and(chance < probability, later), FixedSeed.of(self.seed_generator)

    @staticmethod
    def sample(logits: Tensor, seed: Tensor) -> Tensor:
        """Samples from logits `(N, V)`; returns int32 `(N,)`."""
        logits = ops.cast(ops.stop_gradient(logits), "float32")
        return ops.squeeze(keras.random.categorical(logits, 1, dtype="int32", seed=seed), 1)

    def call(self, inputs: Tensor, logits: Tensor, training: bool = False) -> Tensor:
        if len(logits.shape) != 3 or len(inputs.shape) != 2:
            raise ValueError(
                "`inputs` must have shape (batch, length) and `logits` shape (batch, length, vocabulary). "
                f"Received: {inputs.shape} and {logits.shape}"
            )
        inputs = ops.cast(inputs, "int32")
        if not training:
            return inputs
        replaced, seed = self.draw(inputs)
        drawn = self.sample(reshape(logits, (-1, logits.shape[-1])), seed)
        drawn = reshape(drawn, shape_of(inputs))
        # Logits predict the next token.
        drawn = ops.concatenate([inputs[:, :1], drawn[:, :-1]], axis=1)
        return ops.where(replaced, drawn, inputs)

    def compute_output_shape(self, inputs_shape: Shape, logits_shape: Shape | None = None) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs: Tensor, logits: Tensor, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype="int32")
