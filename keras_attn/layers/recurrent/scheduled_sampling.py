"""Training on a model's own tokens."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.serialization import deserialized
from keras_attn.ops.seeds import DrawnSeed
from keras_attn.typing import Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class ScheduledSampling(Configurable, keras.layers.Layer):
    """In training, replaces each input token of a decoder, with probability `p`, by a sample from the model's logits.

    Token `t` becomes a sample from `softmax(logits[t - 1])`; the first token stays. Samples pass no gradient. In
    inference, tokens stay as they are.

    `Seq2SeqRNN(scheduled_sampling=...)` samples token by token: the logits follow from the samples before. A call of
    the layer takes the logits of a first pass over all tokens at once instead, which suits Transformers.

    Args:
        probability: `p`, float in [0, 1], or a `keras.optimizers.schedules.LearningRateSchedule` of the number of calls
            in training so far. The layer then counts them in a weight, so that a training run that is resumed goes on
            with the schedule.
        seed: seed of the samples.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: int32 `(B, T)`, the tokens that the decoder is given.
        logits: float `(B, T, V)`, of the tokens that follow each of `inputs`.
        training: whether to replace tokens.

    Returns:
        int32 `(B, T)`.

    Raises:
        ValueError: `probability` is no such number or schedule, or the shapes do not fit.

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
        """What a call in training draws for `ids` `(B, T)`, which counts as one of the schedule.

        Returns:
            `(replaced, seed)`: bool `(B, T)`, and a `DrawnSeed`, whose `at(t)` is for the token at `t`.
        """
        probability = self.probability
        if self._follows_schedule:
            probability = ops.cast(probability(self.calls.value), "float32")
            self.calls.assign(self.calls + 1)
        chance = keras.random.uniform(ops.shape(ids), dtype="float32", seed=self.seed_generator)
        later = ops.expand_dims(ops.arange(ops.shape(ids)[1]), 0) > 0
        return ops.logical_and(chance < probability, later), DrawnSeed.of(self.seed_generator)

    @staticmethod
    def sample(logits: Tensor, seed: Tensor) -> Tensor:
        """Draws from logits `(N, V)`: int32 `(N,)`."""
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
        drawn = self.sample(ops.reshape(logits, (-1, logits.shape[-1])), seed)
        drawn = ops.reshape(drawn, ops.shape(inputs))
        # Logits are those of the next token.
        drawn = ops.concatenate([inputs[:, :1], drawn[:, :-1]], axis=1)
        return ops.where(replaced, drawn, inputs)

    def compute_output_shape(self, inputs_shape: Shape, logits_shape: Shape | None = None) -> Shape:
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs: Tensor, logits: Tensor, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype="int32")
