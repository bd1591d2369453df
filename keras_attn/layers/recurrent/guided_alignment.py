"""Supervised attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.shape_checks import check_mask, fits
from keras_attn.ops.arrays import shape_of
from keras_attn.typing import Shape, Tensor

COSTS = ("cross_entropy", "squared_error")


@keras.saving.register_keras_serializable(package="keras_attn")
class GuidedAlignment(Configurable, keras.layers.Layer):
    """Adds a loss between attention scores and given alignments. Inputs pass through unchanged.

    With scores `a` and alignments `g`, the cost of a token is `-sum_s g_s log a_s` ("cross_entropy") or
    `sum_s (g_s - a_s)^2` ("squared_error"). The loss is `weight` times the mean cost of the tokens that are not
    padding; it is added by `add_loss`, which `model.fit` and `Trainer` respect. Without alignments, as in generation,
    nothing is added.

    Args:
        weight: Factor of the loss.
        cost: "cross_entropy" or "squared_error".
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`, returned unchanged.
        scores: Float `(B, T, S)`, from an attention layer with `return_attention_scores`. For `MultiHeadAttention`,
            select one head.
        alignments: Optional float `(B, T, S)`, the target scores; all zeros for an unaligned token.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.

    Returns:
        `inputs`.

    Raises:
        ValueError: If an argument or a shape is invalid.

    Reference:
        [Chen et al., 2016](https://arxiv.org/abs/1607.01628); [Garg et al., 2019](https://arxiv.org/abs/1909.02074)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AdditiveAttention, GuidedAlignment
    >>> query, value = np.ones((2, 3, 16), "float32"), np.ones((2, 4, 16), "float32")
    >>> x, scores = AdditiveAttention(8)(query, value, return_attention_scores=True)
    >>> guided = GuidedAlignment(weight=0.5)
    >>> x = guided(x, scores, np.full((2, 3, 4), 0.25, "float32"))
    >>> round(float(guided.losses[0]), 3)
    0.693
    """

    def __init__(self, weight: float = 1.0, cost: str = "cross_entropy", **kwargs: Any) -> None:
        if not weight >= 0:
            raise ValueError(f"`weight` must not be negative. Received: weight={weight}")
        if cost not in COSTS:
            raise ValueError(f"`cost` must be one of {list(COSTS)}. Received: cost={cost!r}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.weight, self.cost = weight, cost

    def call(
        self, inputs: Tensor, scores: Tensor, alignments: Tensor | None = None, *, inputs_mask: Tensor | None = None
    ) -> Tensor:
        if alignments is None:
            return inputs
        if len(scores.shape) != 3 or not fits(alignments.shape, scores.shape):
            raise ValueError(
                "`alignments` must have the shape of `scores`, (batch, length, source length). "
                f"Received: {alignments.shape} and {scores.shape}"
            )
        inputs_mask = implicit_mask(inputs, inputs_mask)
        check_mask("inputs_mask", inputs_mask, scores.shape[:2])
        scores, alignments = ops.cast(scores, "float32"), ops.cast(alignments, "float32")
        if self.cost == "cross_entropy":
            costs = -ops.sum(alignments * ops.log(ops.maximum(scores, keras.config.epsilon())), axis=-1)
        else:
            costs = ops.sum(ops.square(alignments - scores), axis=-1)
        counts = ops.ones_like(costs) if inputs_mask is None else ops.cast(inputs_mask, "float32")
        counts = ops.broadcast_to(counts, shape_of(costs))
        mean = ops.divide_no_nan(ops.sum(costs * counts), ops.sum(counts))
        self.add_loss(self.weight * mean)
        return inputs

    def compute_output_shape(
        self, input_shape: Shape, scores_shape: Shape | None = None, alignments_shape: Shape | None = None
    ) -> Shape:
        return tuple(input_shape)

    def compute_output_spec(
        self, inputs: Tensor, scores: Tensor, alignments: Tensor | None = None, *, inputs_mask: Tensor | None = None
    ) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)
