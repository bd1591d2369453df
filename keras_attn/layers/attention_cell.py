"""A recurrent cell that attends."""

import keras
from keras import ops, tree

from keras_attn.argument_checks import check_positive
from keras_attn.layers.alignment import Alignment
from keras_attn.layers.configurable import Configurable
from keras_attn.layers.projection import Projection
from keras_attn.layers.serialization import deserialized
from keras_attn.ops.boolean_mask import boolean


@keras.saving.register_keras_serializable(package="keras_attn")
class AttentionCell(Configurable, keras.layers.Layer):
    """Any RNN cell, joined with any alignment: at each step it attends to a memory `(B, S, Dm)`.

    As Luong et al. have it, the new output of the cell is the query, and the last step's attention vector joins the
    cell's inputs:

        h_t = cell([x_t; a_t-1]);  c_t = attention(h_t, memory);  a_t = tanh(W [h_t; c_t])

    With `attend_first`, as Bahdanau et al. and GNMT have it, the last output is, and the context joins the inputs:

        c_t = attention(h_t-1, memory);  h_t = cell([x_t; c_t])

    The output is `a_t`; without `attention_dim` there is no `W`, and it is `[h_t; c_t]`, while `c_t` stands for `a_t`
    in the inputs. `AttentionRNN` runs the cell over a sequence. In `keras.layers.RNN` the memory travels in the state:
    `keras.layers.RNN(cell)(x, initial_state=cell.initial_states(memory))`.

    Args:
        cell: a Keras RNN cell.
        attention: an `Alignment` layer.
        attention_dim: width of the attention vector `a_t`.
        input_feeding: whether the attention joins the cell's inputs at all.
        attend_first: whether the query is the last output of the cell, and not the new one.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `(B, D)`.
        states: list of tensors, from `initial_states` or the last call.
        training: whether dropout is on.

    Returns:
        `(output, states)`: float `(B, attention_dim)` or `(B, U + Dm)`, and the states of the next step.

    Raises:
        ValueError: an argument does not fit; the message names it.

    Reference:
        [Luong et al., 2015](https://arxiv.org/abs/1508.04025), section 3.3;
        [Bahdanau et al., 2015](https://arxiv.org/abs/1409.0473)

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_attn.layers import AttentionCell, LuongAttention
    >>> cell = AttentionCell(keras.layers.LSTMCell(8), LuongAttention("general"), attention_dim=6)
    >>> states = cell.initial_states(np.ones((2, 7, 4), "float32"))
    >>> tuple(keras.layers.RNN(cell, return_sequences=True)(np.ones((2, 5, 3), "float32"), states).shape)
    (2, 5, 6)
    """

    def __init__(self, cell, attention, attention_dim=None, input_feeding=True, attend_first=False, **kwargs):
        cell, attention = deserialized(cell), deserialized(attention)
        if not hasattr(cell, "state_size") or not callable(cell):
            raise ValueError(f"`cell` must be a Keras RNN cell, with a `state_size`. Received: cell={cell!r}")
        if not isinstance(attention, Alignment):
            raise ValueError(f"`attention` must be an Alignment layer. Received: attention={attention!r}")
        if attention_dim is not None:
            check_positive(attention_dim=attention_dim)
        super().__init__(**kwargs)
        self.cell, self.attention, self.attention_dim = cell, attention, attention_dim
        self.input_feeding, self.attend_first = input_feeding, attend_first
        self._memory_dim = None

    def build(self, inputs_shape, memory_shape=None):
        if memory_shape is not None:
            self._build_attention(memory_shape)
        elif self._memory_dim is None:
            raise ValueError("`initial_state` must come from `initial_states(memory)` of the cell. Received: no memory")
        # What joins the inputs is not what the next step is fed where the query is the last output.
        fed = self._memory_dim if self.attend_first else self.fed_dim
        width = inputs_shape[-1] + (fed if self.input_feeding else 0)
        if isinstance(self.cell, keras.layers.Layer) and not self.cell.built:
            self.cell.build((None, width))
        if self.attention_dim is not None:
            self.attention_dense = Projection(
                "ab,bc->ac", (self.attention_dim,), activation="tanh", dtype=self.dtype_policy, name="attention_vector"
            )
            self.attention_dense.build((None, self._cell_dim + self._memory_dim))

    def _build_attention(self, memory_shape):
        self._memory_dim = memory_shape[-1]
        if not self.attention.built:
            self.attention.build((None, None, self._cell_dim), (None, None, self._memory_dim))

    @property
    def _cell_dim(self):
        return getattr(self.cell, "output_size", None) or tree.flatten(self.cell.state_size)[0]

    @property
    def output_size(self):
        return self.attention_dim or self._cell_dim + self._memory_dim

    @property
    def fed_dim(self):
        """Width of what a step hands to the next one: the last output where `attend_first`, else the attention."""
        return self._cell_dim if self.attend_first else self.attention_dim or self._memory_dim

    @property
    def state_size(self):
        """One number a state tensor, as `keras.layers.RNN` wants; those that depend on the memory are not known."""
        return [*tree.flatten(self.cell.state_size), *[self._cell_dim] * (4 + self.num_alignment_states)]

    @property
    def num_alignment_states(self):
        """How many `(B, S)` tensors the attention hands from step to step."""
        return len(self.attention.initial_state(1, 1))

    def project_memory(self, memory):
        """`(keys, memory)`, what `start` and `step` take: computed once for a whole sequence."""
        if not self.attention.built:
            self._build_attention(memory.shape)
        return self.attention.project_memory(memory), memory

    def start(self, keys, memory, cell_state=None):
        """The states before the first step, without the memory.

        Args:
            keys, memory: from `project_memory`.
            cell_state: the states of the wrapped cell; its own initial ones where None.

        Returns:
            List: the states of the cell; what the next step is fed; the state of the attention.
        """
        self.reset_dropout_mask()
        batch, length = ops.shape(memory)[0], ops.shape(memory)[1]
        if cell_state is None and hasattr(self.cell, "get_initial_state"):
            cell_state = self.cell.get_initial_state(batch_size=batch)
        elif cell_state is None:
            sizes = tree.flatten(self.cell.state_size)
            cell_state = [ops.zeros((batch, size), dtype=self.cell.compute_dtype) for size in sizes]
        states = tree.flatten(cell_state)
        if self.attend_first:
            fed = ops.cast(self._hidden(states), self.compute_dtype)
        else:
            fed = ops.zeros((batch, self.fed_dim), dtype=self.compute_dtype)
        return [*states, fed, *self.attention.initial_state(batch, length)]

    def initial_states(self, memory, memory_mask=None, cell_state=None):
        """All states before the first step, for `keras.layers.RNN`.

        Args:
            memory: float `(B, S, Dm)`.
            memory_mask: optional bool `(B, S)`, False at padding.
            cell_state: the states of the wrapped cell; its own initial ones where None.

        Returns:
            List of tensors: those of `start`, and behind them keys, memory and mask.
        """
        memory = ops.convert_to_tensor(memory, dtype=self.compute_dtype)
        keys, memory = self.project_memory(memory)
        # States have the dtype of the cell, so the mask is a float on its way.
        mask = ops.ones(ops.shape(memory)[:2]) if memory_mask is None else boolean("memory_mask", memory_mask)
        return [*self.start(keys, memory, cell_state), keys, memory, ops.cast(mask, self.compute_dtype)]

    def call(self, inputs, states, training=False):
        *states, keys, memory, mask = states
        output, _, states = self.step(inputs, states, keys, memory, ops.greater(mask, 0.5), training)
        return output, [*states, keys, memory, ops.cast(mask, self.compute_dtype)]

    def step(self, inputs, states, keys, memory, mask=None, training=False):
        """One step, with the memory beside the states.

        Args:
            inputs: float `(B, D)`.
            states: from `start`, or from the last step.
            keys, memory: from `project_memory`.
            mask: optional bool `(B, S)`.
            training: whether dropout is on.

        Returns:
            `(output, weights, states)`; weights are the attention's, `(B, S)`.
        """
        num_states = len(tree.flatten(self.cell.state_size))
        cell_states, fed, alignment = states[:num_states], states[num_states], states[num_states + 1 :]
        if self.attend_first:
            context, weights, alignment = self.attention.step(fed, keys, memory, mask, alignment, training)
            output, cell_states = self._run(inputs, context, cell_states, training)
            fed = output
        else:
            output, cell_states = self._run(inputs, fed, cell_states, training)
            context, weights, alignment = self.attention.step(output, keys, memory, mask, alignment, training)
            fed = context
        output = ops.concatenate([output, context], axis=-1)
        if self.attention_dim is not None:
            output = self.attention_dense(output)
            fed = fed if self.attend_first else output
        return output, weights, [*cell_states, fed, *alignment]

    def _run(self, inputs, fed, states, training):
        x = ops.concatenate([inputs, fed], axis=-1) if self.input_feeding else inputs
        sizes = self.cell.state_size
        packed = tree.pack_sequence_as(sizes, list(states)) if tree.is_nested(sizes) else list(states)
        takes_training = isinstance(self.cell, keras.layers.Layer) and self.cell._call_has_training_arg
        output, states = self.cell(x, packed, **({"training": training} if takes_training else {}))
        return ops.cast(output, self.compute_dtype), tree.flatten(states)

    def _hidden(self, states):
        """The output that the states of the cell hold: the first state, of the topmost cell in a stack."""
        sizes = self.cell.state_size
        top = sizes[-1] if isinstance(self.cell, keras.layers.StackedRNNCells) else sizes
        return states[-len(tree.flatten(top))]

    def reset_dropout_mask(self):
        """Makes the wrapped cells, which keep one dropout mask for a sequence, draw a new one."""
        for cell in getattr(self.cell, "cells", [self.cell]):
            for reset in ("reset_dropout_mask", "reset_recurrent_dropout_mask"):
                getattr(cell, reset, lambda: None)()
