"""Copying tokens of the source into the output."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.argument_checks import check_count, check_finite
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.shape_checks import check_mask, check_sequence, fits
from keras_attn.ops.arrays import shape_of
from keras_attn.ops.copy_distribution import copy_distribution
from keras_attn.ops.sigmoid import sigmoid
from keras_attn.typing import Shape, Tensor

# Below the probability of any token that a model has learnt, and far above the smallest float32.
_LEAST = 1e-12


@keras.saving.register_keras_serializable(package="keras_attn")
class PointerGenerator(Configurable, keras.layers.Layer):
    """Logarithms of `p P(w) + (1 - p) sum_{s: source_s = w} a_s`: tokens that are generated, or copied from the source.

    `P` is the softmax of the logits, `a` are attention scores over the source, and `p = sigmoid(w x + b)` is the
    probability of generating. Where all scores are 0, as for a source of padding, `p` is 1. Tokens from `V` to
    `V + extended_size - 1` can only be copied.

    With `coverage_weight`, a loss is added in training: `sum_s min(a_ts, c_ts)`, with `c_t` the sum of the scores of
    earlier queries, which counts what is attended to repeatedly. It is the mean over queries that are not padding.

    Args:
        extended_size: Number of tokens `E` beyond those of the logits.
        unknown_id: The token that models embed instead of those beyond the logits. Required with `extended_size`.
        coverage_weight: Factor of the coverage loss.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`, the features `x`; in the paper, those of the context, the state and the last token.
        logits: Float `(B, T, V)`.
        scores: Float `(B, T, S)`, attention scores over the source: in each row, they sum to 1, or all are 0.
        source_ids: Int32 `(B, S)`, tokens below `V + E`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        training: Whether to add the coverage loss.

    Returns:
        Logits, which are logarithms of probabilities of at least 1e-12, float `(B, T, V + E)`.

    Raises:
        ValueError: If an argument or a shape is invalid.

    Reference:
        [See et al., 2017](https://arxiv.org/abs/1704.04368)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import PointerGenerator
    >>> pointer = PointerGenerator(extended_size=1, unknown_id=0)
    >>> hidden, logits = np.zeros((1, 1, 4), "float32"), np.zeros((1, 1, 2), "float32")
    >>> scores = np.array([[[0.75, 0.25]]], "float32")
    >>> np.round(np.exp(pointer(hidden, logits, scores, np.array([[2, 0]]))), 3)
    array([[[0.375, 0.25 , 0.375]]], dtype=float32)
    """

    def __init__(
        self,
        extended_size: int = 0,
        unknown_id: int | None = None,
        coverage_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_count(extended_size=extended_size, unknown_id=0 if unknown_id is None else unknown_id)
        if extended_size and unknown_id is None:
            raise ValueError(
                "`unknown_id` must be given with `extended_size`: the token that is embedded instead of those that "
                f"can only be copied. Received: extended_size={extended_size}, unknown_id=None"
            )
        check_finite(coverage_weight=coverage_weight)
        if coverage_weight < 0:
            raise ValueError(f"`coverage_weight` must not be negative. Received: coverage_weight={coverage_weight}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.extended_size, self.unknown_id, self.coverage_weight = extended_size, unknown_id, coverage_weight

    def build(
        self,
        inputs_shape: Shape,
        logits_shape: Shape | None = None,
        scores_shape: Shape | None = None,
        source_ids_shape: Shape | None = None,
    ) -> None:
        check_sequence("inputs", inputs_shape)
        self.gate = Projection("abc,cd->abd", (None, 1), bias_axes="d", dtype=self.dtype_policy, name="gate")
        self.gate.build(inputs_shape)

    def call(
        self,
        inputs: Tensor,
        logits: Tensor,
        scores: Tensor,
        source_ids: Tensor,
        *,
        inputs_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        for name, x in (("inputs", inputs), ("logits", logits), ("scores", scores)):
            check_sequence(name, x.shape)
            if not fits(x.shape[:2], inputs.shape[:2]):
                raise ValueError(f"`{name}` must have the batch and length of `inputs`. Received: shape {x.shape}")
        if not fits(source_ids.shape, (inputs.shape[0], scores.shape[-1])):
            raise ValueError(
                "`source_ids` must have the shape (batch, source length) of `scores`. "
                f"Received: {source_ids.shape} for scores of shape {scores.shape}"
            )
        inputs_mask = implicit_mask(inputs, inputs_mask)
        check_mask("inputs_mask", inputs_mask, inputs.shape[:2])
        # Probabilities have no use for half precision: those of a large vocabulary vanish in it.
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        logits, scores = ops.cast(logits, dtype), ops.cast(scores, dtype)
        if training and self.coverage_weight:
            self.add_loss(self.coverage_weight * _repeated(scores, inputs_mask))
        gate = ops.cast(self.gate(inputs), dtype)
        # Without a source there is nothing to copy. A difference from 1 would lose all digits of a small probability.
        has_source = ops.greater(ops.sum(scores, axis=-1, keepdims=True), 0)
        share = ops.where(has_source, sigmoid(gate), 1.0)
        generated = ops.multiply(ops.softmax(logits, axis=-1), share)
        scores = ops.multiply(scores, sigmoid(ops.negative(gate)))
        if self.extended_size:
            generated = ops.pad(generated, ((0, 0), (0, 0), (0, self.extended_size)))
        size = logits.shape[-1] + self.extended_size
        found = ops.log(ops.maximum(generated + copy_distribution(scores, source_ids, size), _LEAST))
        return ops.cast(found, self.compute_dtype)

    def embedded_ids(self, ids: Tensor, vocabulary_size: int) -> Tensor:
        """The ids, int32 `(B, T)`, by which a model with embeddings of `V` tokens embeds tokens below `V + E`.

        Ids beyond these stay as they are, so that the lookup refuses them.
        """
        if not self.extended_size:
            return ids
        size = vocabulary_size + self.extended_size
        is_copied = ops.logical_and(ops.greater_equal(ids, vocabulary_size), ops.less(ids, size))
        return ops.where(is_copied, self.unknown_id, ids)

    def compute_mask(self, inputs: Tensor, mask: Any = None) -> Tensor | None:
        return mask[0] if isinstance(mask, list | tuple) else mask

    def compute_output_shape(
        self,
        inputs_shape: Shape,
        logits_shape: Shape,
        scores_shape: Shape | None = None,
        source_ids_shape: Shape | None = None,
    ) -> Shape:
        return (*inputs_shape[:2], logits_shape[-1] + self.extended_size)

    def compute_output_spec(
        self, inputs: Tensor, logits: Tensor, scores: Tensor, source_ids: Tensor, **kwargs: Any
    ) -> keras.KerasTensor:
        shape = self.compute_output_shape(inputs.shape, logits.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)


def _repeated(scores, mask):
    """The mean over queries of the scores that earlier queries have given the same positions."""
    earlier = ops.cumsum(scores, axis=1) - scores
    costs = ops.sum(ops.minimum(scores, earlier), axis=-1)
    counts = ops.ones_like(costs) if mask is None else ops.broadcast_to(ops.cast(mask, costs.dtype), shape_of(costs))
    return ops.divide_no_nan(ops.sum(costs * counts), ops.sum(counts))
