"""Base class of single-head attention with an arbitrary score function."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.shape_checks import check_mask, check_pairs, fits
from keras_attn.ops import AttentionMask, masked_softmax, scan
from keras_attn.ops.arrays import axis_size, matmul_transposed, shape_of
from keras_attn.ops.attention_axes import AttentionAxes
from keras_attn.ops.attention_recording import recorder
from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Alignment(Configurable, keras.layers.Layer):
    """Base class of the alignment layers; by itself it computes `softmax(query key^T) value`.

    `call` attends with a whole sequence of queries, `step` with one query at a time, as in `AttentionCell`; both give
    the same result. Subclasses override `energies`, and other hooks as needed:

    * `project_memory(value, key)` -> keys and `project_query(query)` -> queries: projections computed in advance;
    * `energies(queries, keys, state)` -> float `(B, T, S)`;
    * `weigh(energies, mask, state, training)` -> weights `(B, T, S)`, by default a masked softmax;
    * `initial_state(batch, length)` and `next_state(weights, state)` -> tuples of `(B, S)` tensors, if `recurrent`,
      that is, if the weights of a query depend on those of earlier queries. `T` is then 1 in the hooks.

    A fully masked query returns zeros and does not change the state.

    Args:
        dropout: Dropout rate of the attention weights.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        query: Float `(B, T, Dq)`. It may have more batch axes, `(B, ..., T, Dq)`, if all other inputs have them too;
            attention is then computed independently for each batch index.
        value: Float `(B, S, Dv)`.
        key: Optional float `(B, S, Dk)`. Defaults to `value`.
        query_mask, value_mask: Optional bool `(B, T)` and `(B, S)`, False at padding. Filled from the Keras masks of
            the inputs.
        attention_mask: Optional bool `(B, T, S)` or `(T, S)`.
        return_attention_scores: Whether to also return the attention weights.
        training: Whether to apply dropout.

    Returns:
        Float `(B, T, Dv)`, or `(output, scores)` with `return_attention_scores`; scores are `(B, T, S)`.

    Raises:
        ValueError: If an argument, a rank or a mask shape does not fit.

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import AdditiveAttention
    >>> attention = AdditiveAttention(units=8)
    >>> tuple(attention(np.ones((2, 3, 16), "float32"), np.ones((2, 5, 32), "float32")).shape)
    (2, 3, 32)
    """

    recurrent = False

    def __init__(self, dropout: float = 0.0, seed: Seed | None = None, **kwargs: Any) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.dropout = dropout
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if dropout else None

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        _check_ranks(query=query_shape, value=value_shape, key=key_shape)
        self.build_weights(query_shape[-1], key_shape[-1])

    def build_weights(self, query_dim: int, key_dim: int) -> None:
        """Creates the weights."""
        if query_dim != key_dim:
            raise ValueError(f"`query` must have as many channels as the keys, {key_dim}. Received: {query_dim}")

    def project_memory(self, value: Tensor, key: Tensor | None = None) -> Tensor:
        """Projects a memory `(B, S, Dv)` to keys, float `(B, S, U)`, once for all queries."""
        return value if key is None else key

    def project_query(self, query: Tensor) -> Tensor:
        """Projects queries `(B, T, Dq)` for `energies`, float `(B, T, U)`."""
        return query

    def initial_state(self, batch_size: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        """The state before the first query for a memory `(batch_size, length, Dv)`: a tuple of `(B, S)` tensors."""
        return ()

    def energies(self, queries: Tensor, keys: Tensor, state: tuple[Tensor, ...] = ()) -> Tensor:
        """The unnormalised scores of all queries and keys, float `(B, T, S)`."""
        return matmul_transposed(queries, keys)

    def weigh(self, energies: Tensor, mask: Tensor, state: tuple[Tensor, ...] = (), training: bool = False) -> Tensor:
        """Turns energies into weights `(B, T, S)`, zero where `mask` is False; the mask broadcasts to them."""
        return masked_softmax(energies, mask)

    def next_state(self, weights: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state for the next query, from the weights `(B, S)` and the state of this one."""
        return ()

    def step(
        self,
        query: Tensor,
        keys: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        state: tuple[Tensor, ...] = (),
        training: bool = False,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Attends with one query per row.

        Args:
            query: Float `(B, Dq)`.
            keys: `project_memory(value)`.
            value: Float `(B, S, Dv)`.
            mask: Optional bool `(B, S)`, False at padding.
            state: `initial_state(B, S)`, or the state that the last step returned.
            training: Whether to apply dropout.

        Returns:
            `(context, weights, state)`: float `(B, Dv)`, float `(B, S)`, and the state for the next step.
        """
        queries = self.project_query(ops.expand_dims(query, 1))
        mask = None if mask is None else ops.expand_dims(mask, 1)
        context, weights, state = self._attend(queries, keys, value, mask, tuple(state), training)
        return ops.squeeze(context, 1), ops.squeeze(weights, 1), state

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        _check_ranks(query=query.shape, value=value.shape, key=value.shape if key is None else key.shape)
        axes = AttentionAxes(len(query.shape), (-2,))
        if not axes.plain and not fits(value.shape[:-2], query.shape[:-2]):
            raise ValueError(f"`value` must have the batch axes of `query`. Received: {value.shape} and {query.shape}")
        if key is not None and not fits(key.shape[:-1], value.shape[:-1]):
            raise ValueError(f"`key` must have the length of `value`. Received: {key.shape} and {value.shape}")
        query_mask = implicit_mask(query, query_mask)
        value_mask = implicit_mask(value, value_mask)
        check_mask("query_mask", query_mask, query.shape[:-1])
        check_mask("value_mask", value_mask, value.shape[:-1])
        check_pairs("attention_mask", attention_mask, query.shape[-2], value.shape[-2])
        folded = _folded(axes, query_mask, query), _folded(axes, value_mask, value)
        mask = _pairs(*folded, axes.fold_mask(attention_mask, query, value))
        values = axes.fold(value)
        queries = self.project_query(axes.fold(query))
        keys = self.project_memory(values, None if key is None else axes.fold(key))
        if self.recurrent:
            context, weights = self._attend_in_turn(queries, keys, values, mask, training)
        else:
            context, weights, _ = self._attend(queries, keys, values, mask, (), training)
        context, scores = axes.unfold(context, query), axes.unfold_scores(ops.expand_dims(weights, 1), query, value)
        records = recorder()
        if records is not None:
            records[self.path] = scores
        return (context, ops.squeeze(scores, -3)) if return_attention_scores else context

    def _attend_in_turn(self, queries, keys, value, mask, training):
        batch, length = axis_size(value, 0), axis_size(value, 1)
        inputs = [ops.transpose(queries, (1, 0, 2))]
        if mask is not None:
            mask = ops.broadcast_to(mask, (batch, axis_size(queries, 1), length))
            inputs.append(ops.transpose(mask, (1, 0, 2)))

        def step(slices, state):
            query, *mask = (ops.expand_dims(x, 1) for x in slices)
            context, weights, state = self._attend(query, keys, value, mask[0] if mask else None, state, training)
            return (ops.squeeze(context, 1), ops.squeeze(weights, 1)), state

        outputs, _ = scan(step, inputs, self.initial_state(batch, length))
        return tuple(ops.transpose(x, (1, 0, 2)) for x in outputs)

    def _attend(self, queries, keys, value, mask, state, training):
        energies = self.energies(queries, keys, state)
        if ops.dtype(energies) != "float64":
            energies = ops.cast(energies, "float32")
        weights = ops.cast(self.weigh(energies, mask, state, training), value.dtype)
        if self.recurrent:
            new = self.next_state(ops.squeeze(weights, 1), state)
            if mask is not None:
                live = ops.any(ops.squeeze(mask, 1), axis=-1, keepdims=True)
                new = tuple(ops.where(live, a, b) for a, b in zip(new, state, strict=True))
            state = new
        dropped = weights
        if self.dropout and training:
            dropped = keras.random.dropout(weights, self.dropout, seed=self.seed_generator)
        return ops.matmul(dropped, value), weights, state

    def _projection(self, name, input_dim, units, use_bias=False):
        projection = Projection(
            "abc,cd->abd", (None, units), bias_axes="d" if use_bias else None, dtype=self.dtype_policy, name=name
        )
        projection.build((None, None, input_dim))
        return projection

    def compute_output_shape(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> Shape:
        return (*query_shape[:-1], value_shape[-1])

    def compute_output_spec(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        return_attention_scores: bool = False,
        **kwargs: Any,
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, ...]:
        lead = query.shape[:-1]
        output = keras.KerasTensor((*lead, value.shape[-1]), dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        return output, keras.KerasTensor((*lead, value.shape[-2]), dtype=self.compute_dtype)


def _check_ranks(**shapes):
    for name, shape in shapes.items():
        if len(shape) < 3 or len(shape) != len(shapes["query"]):
            raise ValueError(
                f"`{name}` must have rank 3 (batch, length, channels), or the higher rank of `query`. "
                f"Received: shape {shape}"
            )


def _folded(axes, mask, like):
    """Folds the batch axes of a padding mask of `like`, to `(B', T)`."""
    if mask is None or axes.plain:
        return mask
    return axes.fold_padding(ops.broadcast_to(boolean("mask", mask), shape_of(like)[:-1]))


def _pairs(query_mask, value_mask, attention_mask):
    """Combines all masks into one of rank 3 that broadcasts to `(B, T, S)`; `attention_mask` has a head axis."""
    mask = AttentionMask(
        query_mask=boolean("query_mask", query_mask),
        key_mask=boolean("value_mask", value_mask),
        explicit=boolean("attention_mask", attention_mask),
    ).materialize()
    return None if mask is None else ops.squeeze(mask, 1)
