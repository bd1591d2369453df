"""A recurrent cell with attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import activations, ops, tree

from keras_attn import compat
from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.base.serialization import deserialized, each_deserialized
from keras_attn.layers.recurrent.alignment import Alignment
from keras_attn.ops.arrays import axis_size, shape_of
from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Activation, Nest, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class AttentionCell(Configurable, keras.layers.Layer):
    """Wraps an RNN cell with attention: at each step it attends to a memory `(B, S, Dm)`.

    By default, as in Luong et al., the new output of the cell is the query, and the attention vector of the previous
    step is concatenated to the cell's inputs:

        h_t = cell([x_t; a_t-1]);  c_t = attention(h_t, memory);  a_t = tanh(W [h_t; c_t])

    With `attend_first`, as in Bahdanau et al. and GNMT, the previous output is the query, and the context is
    concatenated to the inputs:

        c_t = attention(h_t-1, memory);  h_t = cell([x_t; c_t])

    The output is `a_t`. Without `attention_dim` there is no `W`: the output is `[h_t; c_t]`, and `c_t` replaces `a_t`
    in the inputs. `AttentionRNN` runs the cell over a sequence. With `keras.layers.RNN`, the memory is part of the
    state: `keras.layers.RNN(cell)(x, initial_state=cell.initial_states(memory))`.

    Several attentions share the query. All attend to the same memory, or each to its own if `memory` is a tuple; their
    contexts `c_t` are concatenated. With a list of widths or layers, each attention has its own attention vector,
    computed from `[h_t; c_t]` with its own context, and `a_t` is their concatenation, as in TensorFlow Addons.

    Args:
        cell: A Keras RNN cell.
        attention: An `Alignment` layer, or a list of them.
        attention_dim: Width of the attention vector `a_t`, or a list with one width per attention.
        input_feeding: Whether to concatenate the attention vector or context to the cell's inputs.
        attend_first: Whether the query is the previous output of the cell instead of the new one.
        attention_activation: Activation of `a_t`, as in `keras.layers.Dense`.
        attention_layer: Optional Keras layer that computes `a_t` from `[h_t; c_t]`, `(B, U + Dm)`, instead of
            `attention_dim`; or a list with one layer per attention.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, D)`.
        states: List of tensors, from `initial_states` or the previous call.
        training: Whether to apply dropout.

    Returns:
        `(output, states)`: float `(B, A)`, where `A` is the width of `a_t`, or `(B, U + Dm)`; and the states for the
        next step.

    Raises:
        ValueError: If an argument is invalid.

    Reference:
        [Luong et al., 2015](https://arxiv.org/abs/1508.04025), section 3.3;
        [Bahdanau et al., 2015](https://arxiv.org/abs/1409.0473); several memories
        [Zoph and Knight, 2016](https://arxiv.org/abs/1601.00710)

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_attn.layers import AttentionCell, LuongAttention
    >>> cell = AttentionCell(keras.layers.LSTMCell(8), LuongAttention("general"), attention_dim=6)
    >>> states = cell.initial_states(np.ones((2, 7, 4), "float32"))
    >>> tuple(keras.layers.RNN(cell, return_sequences=True)(np.ones((2, 5, 3), "float32"), states).shape)
    (2, 5, 6)
    """

    def __init__(
        self,
        cell: keras.Layer,
        attention: Alignment | Sequence[Alignment],
        attention_dim: int | Sequence[int] | None = None,
        input_feeding: bool = True,
        attend_first: bool = False,
        attention_activation: Activation = "tanh",
        attention_layer: keras.Layer | Sequence[keras.Layer] | None = None,
        **kwargs: Any,
    ) -> None:
        cell, attention = deserialized(cell), each_deserialized(attention)
        attention_layer = each_deserialized(attention_layer)
        _check_arguments(cell, attention, attention_dim, attention_layer)
        super().__init__(**kwargs)
        self.cell, self.attention, self.attention_dim = cell, attention, attention_dim
        self.input_feeding, self.attend_first = input_feeding, attend_first
        self.attention_activation, self.attention_layer = activations.get(attention_activation), attention_layer
        self._memory_dims = None
        # Width of the attention vector, or None; that of `attention_layer` depends on the width of the memory.
        self._vector_dim = None if attention_dim is None else sum(_listed(attention_dim))

    def build(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> None:
        if memory_shape is not None:
            several = isinstance(memory_shape[0], list | tuple)
            self._build_attention(self.for_each(memory_shape) if several else [memory_shape] * len(self.attentions))
        elif self._memory_dims is None:
            raise ValueError("`initial_state` must come from `initial_states(memory)` of the cell. Received: no memory")
        # With `attend_first`, contexts are concatenated to the inputs, but the state holds the last output.
        fed = sum(self._memory_dims) if self.attend_first else self.fed_dim
        width = inputs_shape[-1] + (fed if self.input_feeding else 0)
        if isinstance(self.cell, keras.layers.Layer) and not self.cell.built:
            self.cell.build((None, width))
        if self.attention_dim is not None:
            vectors = [
                Projection(
                    "ab,bc->ac",
                    (dim,),
                    activation=self.attention_activation,
                    dtype=self.dtype_policy,
                    name="attention_vector" if number == 0 else f"attention_vector_{number}",
                )
                for number, dim in enumerate(_listed(self.attention_dim))
            ]
            self.attention_dense = vectors if isinstance(self.attention_dim, list | tuple) else vectors[0]
        for layer, width in zip(self._vectors(), self._vector_inputs(self._memory_dims), strict=True):
            if not layer.built:
                layer.build((None, width))

    def _build_attention(self, memory_shapes):
        self._memory_dims = [shape[-1] for shape in memory_shapes]
        if self.attention_layer is not None:
            self._vector_dim = self.output_dim(memory_shapes)
        for attention, dim in zip(self.attentions, self._memory_dims, strict=True):
            if not attention.built:
                attention.build((None, None, self._cell_dim), (None, None, dim))

    @property
    def attentions(self) -> list[Alignment]:
        """The `Alignment` layers, as a list."""
        return _listed(self.attention)

    @property
    def has_several(self) -> bool:
        """Whether `attention` is a list; keys and weights are then tuples, and memories may be."""
        return isinstance(self.attention, list)

    def for_each(self, value: Any) -> list[Any]:
        """A list with one entry per attention: those of a tuple, or `value` for all of them."""
        if not self.has_several or not isinstance(value, list | tuple):
            return [value] * len(self.attentions)
        if len(value) != len(self.attentions):
            raise ValueError(
                "`memory`, its masks and its keys must be single tensors or tuples with one entry for each of the "
                f"{len(self.attentions)} attentions. Received: {len(value)}"
            )
        return list(value)

    def _vectors(self):
        """The layers that compute the attention vector; none if it is `[h_t; c_t]`."""
        if self.attention_layer is not None:
            return _listed(self.attention_layer)
        return [] if self.attention_dim is None else _listed(self.attention_dense)

    def _vector_inputs(self, memory_dims):
        """Input widths of these layers."""
        given = self.attention_dim if self.attention_layer is None else self.attention_layer
        if given is None:
            return []
        dims = memory_dims if isinstance(given, list | tuple) else [sum(memory_dims)]
        return [self._cell_dim + dim for dim in dims]

    @property
    def _cell_dim(self):
        return getattr(self.cell, "output_size", None) or tree.flatten(self.cell.state_size)[0]

    @property
    def output_size(self) -> int:
        return self._vector_dim or self._cell_dim + sum(self._memory_dims)

    @property
    def fed_dim(self) -> int:
        """Width of the state that feeds the next step: the output with `attend_first`, else the attention vector."""
        return self._cell_dim if self.attend_first else self._vector_dim or sum(self._memory_dims)

    @property
    def state_size(self) -> list[int | None]:
        """The size of each state tensor, for `keras.layers.RNN`; sizes that depend on the memory are placeholders."""
        count = 1 + self.num_alignment_states + 3 * len(self.attentions)
        return [*tree.flatten(self.cell.state_size), *[self._cell_dim] * count]

    @property
    def num_alignment_states(self) -> int:
        """Number of `(B, S)` state tensors of all attentions."""
        return sum(self.alignment_states())

    def alignment_states(self) -> list[int]:
        """Number of state tensors of each attention."""
        return [len(attention.initial_state(1, 1)) for attention in self.attentions]

    def project_memory(self, memory: Nest) -> tuple[Nest, Nest]:
        """Computes `(keys, memory)` for `start` and `step`, once per sequence."""
        if self._memory_dims is None:
            self._build_attention([x.shape for x in self.for_each(memory)])
        pairs = zip(self.attentions, self.for_each(memory), strict=True)
        keys = tuple(attention.project_memory(x) for attention, x in pairs)
        return (keys if self.has_several else keys[0]), memory

    def start(self, keys: Nest, memory: Nest, cell_state: Nest | None = None) -> list[Tensor]:
        """The initial states, without the memory.

        Args:
            keys, memory: From `project_memory`.
            cell_state: Optional states of the wrapped cell. Defaults to its initial states.

        Returns:
            List: the states of the cell, the vector that feeds the next step, and the states of the attentions.
        """
        self.reset_dropout_mask()
        memories = self.for_each(memory)
        batch = axis_size(memories[0], 0)
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
        pairs = zip(self.attentions, memories, strict=True)
        return [*states, fed, *(state for layer, x in pairs for state in layer.initial_state(batch, axis_size(x, 1)))]

    def initial_states(
        self, memory: Nest, memory_mask: Nest | None = None, cell_state: Nest | None = None
    ) -> list[Tensor]:
        """All initial states, for `keras.layers.RNN`.

        Args:
            memory: Float `(B, S, Dm)`, or a tuple of such tensors.
            memory_mask: Optional bool `(B, S)`, False at padding, or a tuple of such masks.
            cell_state: Optional states of the wrapped cell. Defaults to its initial states.

        Returns:
            List of tensors: those of `start`, then the keys, memory and mask of each attention.
        """
        memory = tree.map_structure(lambda x: ops.convert_to_tensor(x, dtype=self.compute_dtype), memory)
        keys, memory = self.project_memory(memory)
        memories, masks = self.for_each(memory), self.for_each(memory_mask)
        # States have the dtype of the cell, so the mask is stored as a float.
        masks = [
            ops.ones(shape_of(x)[:2]) if y is None else boolean("memory_mask", y)
            for x, y in zip(memories, masks, strict=True)
        ]
        masks = [ops.cast(mask, self.compute_dtype) for mask in masks]
        return [*self.start(keys, memory, cell_state), *self.for_each(keys), *memories, *masks]

    def call(self, inputs: Tensor, states: Nest, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        count = len(self.attentions)
        states, fixed = list(states[: -3 * count]), list(states[-3 * count :])
        keys, memory, mask = (tuple(fixed[i * count : (i + 1) * count]) for i in range(3))
        mask = tuple(ops.greater(x, 0.5) for x in mask)
        if not self.has_several:
            (keys,), (memory,), (mask,) = keys, memory, mask
        output, _, states = self.step(inputs, states, keys, memory, mask, training)
        return output, [*states, *fixed]

    def step(
        self, inputs: Tensor, states: Nest, keys: Nest, memory: Nest, mask: Nest | None = None, training: bool = False
    ) -> tuple[Tensor, Nest, list[Tensor]]:
        """Runs one step, with the memory as an argument instead of in the states.

        Args:
            inputs: Float `(B, D)`.
            states: From `start` or the previous step.
            keys, memory: From `project_memory`.
            mask: Optional bool `(B, S)`, or a tuple of such masks.
            training: Whether to apply dropout.

        Returns:
            `(output, weights, states)`; attention weights are `(B, S)`, or a tuple with one entry per attention.
        """
        num_states = len(tree.flatten(self.cell.state_size))
        cell_states, fed, alignment = states[:num_states], states[num_states], states[num_states + 1 :]
        if self.attend_first:
            contexts, weights, alignment = self._attend(fed, keys, memory, mask, alignment, training)
            output, cell_states = self._run(inputs, contexts, cell_states, training)
            fed = output
        else:
            output, cell_states = self._run(inputs, [fed], cell_states, training)
            contexts, weights, alignment = self._attend(output, keys, memory, mask, alignment, training)
            fed = contexts[0] if len(contexts) == 1 else ops.concatenate(contexts, axis=-1)
        vectors = self._vectors()
        if not vectors:
            output = ops.concatenate([output, *contexts], axis=-1)
        else:
            # A single layer takes all contexts, several layers take one each.
            groups = [contexts] if len(vectors) == 1 else [[context] for context in contexts]
            output = [
                layer(ops.concatenate([output, *group], axis=-1)) for layer, group in zip(vectors, groups, strict=True)
            ]
            output = output[0] if len(output) == 1 else ops.concatenate(output, axis=-1)
            fed = fed if self.attend_first else output
        return output, (weights if self.has_several else weights[0]), [*cell_states, fed, *alignment]

    def _attend(self, query, keys, memory, mask, states, training):
        """`(contexts, weights, states)` of all attentions for one query."""
        counts = self.alignment_states() if self.has_several else [len(states)]
        given = zip(self.attentions, *map(self.for_each, (keys, memory, mask)), counts, strict=True)
        contexts, weights, after = [], [], []
        for attention, own_keys, value, own_mask, count in given:
            own, states = states[:count], states[count:]
            context, alignment, own = attention.step(query, own_keys, value, own_mask, own, training)
            contexts.append(context)
            weights.append(alignment)
            after += own
        return contexts, tuple(weights), after

    def _run(self, inputs, fed, states, training):
        x = ops.concatenate([inputs, *fed], axis=-1) if self.input_feeding else inputs
        sizes = self.cell.state_size
        packed = tree.pack_sequence_as(sizes, list(states)) if tree.is_nested(sizes) else list(states)
        takes_training = isinstance(self.cell, keras.layers.Layer) and compat.takes_training(self.cell)
        output, states = self.cell(x, packed, **({"training": training} if takes_training else {}))
        return ops.cast(output, self.compute_dtype), tree.flatten(states)

    def _hidden(self, states):
        """The output of the cell according to its states: the first state, or that of the top cell of a stack."""
        sizes = self.cell.state_size
        top = sizes[-1] if isinstance(self.cell, keras.layers.StackedRNNCells) else sizes
        return states[-len(tree.flatten(top))]

    def output_dim(self, memory_shapes: Sequence[Shape]) -> int:
        """Width of the output, given the shape of the memory of each attention."""
        dims = [shape[-1] for shape in memory_shapes]
        if self.attention_layer is None:
            return self._vector_dim or self._cell_dim + sum(dims)
        layers = zip(self._vectors(), self._vector_inputs(dims), strict=True)
        return sum(layer.compute_output_shape((None, width))[-1] for layer, width in layers)

    def compute_output_shape(self, inputs_shape: Shape, states_shape: Sequence[Shape]) -> tuple[Shape, list[Shape]]:
        count = len(self.attentions)
        width = self.output_dim(states_shape[-2 * count : -count])
        return (inputs_shape[0], width), [tuple(shape) for shape in states_shape]

    def reset_dropout_mask(self) -> None:
        """Resets the dropout masks of the wrapped cells, which are kept for a whole sequence."""
        for cell in getattr(self.cell, "cells", [self.cell]):
            for reset in ("reset_dropout_mask", "reset_recurrent_dropout_mask"):
                getattr(cell, reset, lambda: None)()


def _listed(value):
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_arguments(cell, attention, attention_dim, attention_layer):
    if not hasattr(cell, "state_size") or not callable(cell):
        raise ValueError(f"`cell` must be a Keras RNN cell, with a `state_size`. Received: cell={cell!r}")
    attentions = _listed(attention)
    if not attentions or not all(isinstance(x, Alignment) for x in attentions):
        raise ValueError(
            f"`attention` must be an Alignment layer, or a list of them. Received: attention={attention!r}"
        )
    if attention_dim is not None and attention_layer is not None:
        raise ValueError(
            "`attention_layer` replaces `attention_dim`, so one of them must be None. "
            f"Received: attention_dim={attention_dim!r} and attention_layer={attention_layer!r}"
        )
    for dim in [] if attention_dim is None else _listed(attention_dim):
        check_positive(attention_dim=dim)
    for layer in [] if attention_layer is None else _listed(attention_layer):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(f"`attention_layer` must be a Keras layer. Received: attention_layer={layer!r}")
    expected = len(attention) if isinstance(attention, list) else None
    for name, given in (("attention_dim", attention_dim), ("attention_layer", attention_layer)):
        if isinstance(given, list | tuple) and len(given) != expected:
            raise ValueError(
                f"`{name}` must not be a list unless `attention` is a list of the same length. "
                f"Received: {name}={given!r}"
            )
