"""A recurrent layer that exports to every format."""

from __future__ import annotations

import functools

import keras
from keras import ops, tree

from keras_attn import compat
from keras_attn.layers.base.boolean_masks import BooleanMasks
from keras_attn.layers.base.composite import Composite
from keras_attn.layers.base.empty_batch import call_on_empty_batch
from keras_attn.ops import scan
from keras_attn.ops.arrays import axis_size, shape_of
from keras_attn.ops.boolean_mask import boolean
from keras_attn.plain_numbers import PlainNumbers
from keras_attn.typing import Nest, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Recurrence(PlainNumbers, BooleanMasks, Composite, keras.layers.RNN):
    """A `keras.layers.RNN` that also exports to TFLite with dynamic batch size and length, unlike Keras' own.

    Works with any Keras cell and in `keras.layers.Bidirectional`. Outputs at masked positions are zero, whereas Keras
    repeats the last valid output. `unroll` is ignored.

    Args:
        cell: A Keras RNN cell, such as `keras.layers.LSTMCell`.
        **kwargs: Other arguments of `keras.layers.RNN`.

    Call arguments:
        sequences: Float `(B, T, D)`.
        initial_state: Optional list of float `(B, U)`. Defaults to zeros.
        mask: Optional bool `(B, T)`, False at padding, which does not change the state.
        training: Whether to apply the cell's dropout.

    Returns:
        Float `(B, U)`, the last valid output, or `(B, T, U)` with `return_sequences`; followed by the final states with
        `return_state`.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_attn.layers import Recurrence
    >>> layer = Recurrence(keras.layers.LSTMCell(8), return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 8)
    """

    def call(
        self, sequences: Tensor, initial_state: Nest | None = None, mask: Tensor | None = None, training: bool = False
    ) -> Tensor | list[Tensor]:
        if sequences.shape[0] == 0:
            run = functools.partial(self.call, training=training)
            return call_on_empty_batch(run, sequences, initial_state, mask)
        if sequences.shape[1] != 0:
            return super().call(sequences, initial_state, mask, training)
        # Keras inspects the first step, so add a masked one.
        sequences = ops.pad(sequences, ((0, 0), (0, 1), (0, 0)))
        mask = ops.zeros(shape_of(sequences)[:2], dtype="bool")
        output, *states = tree.flatten(super().call(sequences, initial_state, mask, training))
        output = output[:, :0] if self.return_sequences else output
        return [output, *states] if states else output

    def inner_loop(
        self, sequences: Tensor, initial_state: Nest, mask: Tensor, training: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        takes_training = isinstance(self.cell, keras.layers.Layer) and compat.takes_training(self.cell)
        kwargs = {"training": training} if takes_training else {}

        def step(x, state):
            outputs, states = self.cell(x, state[1:], **kwargs)
            states = states if isinstance(states, (list, tuple)) else [states]
            return outputs, [outputs, *states]

        inputs = ops.transpose(sequences, (1, 0, 2))
        mask = None if mask is None else ops.transpose(boolean("mask", mask), (1, 0))
        if self.go_backwards:
            inputs = ops.flip(inputs, axis=0)
            mask = None if mask is None else ops.flip(mask, axis=0)
        width = getattr(self.cell, "output_size", None) or self.state_size[0]
        # The last output is part of the state, so that padding does not change it.
        last = ops.zeros((axis_size(sequences, 0), width), dtype=self.cell.compute_dtype)
        outputs, (last, *states) = scan(step, inputs, [last, *initial_state], mask)
        return last, ops.transpose(outputs, (1, 0, 2)), states
