"""A recurrent layer with attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops, tree

from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.empty_batch import call_on_empty_batch
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.base.shape_checks import check_mask
from keras_attn.layers.recurrent.attention_cell import AttentionCell
from keras_attn.ops import scan
from keras_attn.ops.attention_recording import recorder
from keras_attn.ops.boolean_mask import boolean
from keras_attn.typing import Nest, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class AttentionRNN(Configurable, keras.layers.Layer):
    """Runs an `AttentionCell` over a sequence: a recurrent decoder that attends to a memory.

    Same as `keras.layers.RNN` with the cell, except that the memory is an argument, its keys are computed once per
    sequence, the attention weights of all steps can be returned, and the layer exports to every format.

    Args:
        cell: An `AttentionCell`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        memory: Float `(B, S, Dm)`; not needed with `memory_cache`. If the cell has several attentions, a tuple gives
            each its own memory.
        inputs_mask: Optional bool `(B, T)`, False at padding, which does not change the states.
        memory_mask: Optional bool `(B, S)`, False at padding; or a tuple of masks or None, one per memory.
        cell_state: Optional initial states of the wrapped cell. Defaults to zeros.
        states: Optional states from an earlier call to continue from.
        memory_cache: Optional result of `project_memory`.
        return_attention_scores: Whether to also return the attention weights of all steps.
        return_state: Whether to also return the states after the last step.
        training: Whether to apply dropout.

    Returns:
        `output` `(B, T, cell.output_size)`, or a tuple of `output`, `scores` `(B, T, S)` (a tuple if there are several
        attentions) and a tuple of states.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_attn.layers import AdditiveAttention, AttentionCell, AttentionRNN
    >>> layer = AttentionRNN(AttentionCell(keras.layers.GRUCell(8), AdditiveAttention(6), attention_dim=4))
    >>> x, memory = np.ones((2, 5, 3), "float32"), np.ones((2, 7, 9), "float32")
    >>> output, scores = layer(x, memory, return_attention_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 4), (2, 5, 7))
    """

    def __init__(self, cell: AttentionCell, **kwargs: Any) -> None:
        cell = deserialized(cell)
        if not isinstance(cell, AttentionCell):
            raise ValueError(f"`cell` must be an AttentionCell. Received: cell={cell!r}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.cell = cell

    def build(self, inputs_shape: Shape, memory_shape: Nest | None = None) -> None:
        shapes = [memory_shape]
        if memory_shape and self.cell.has_several and isinstance(memory_shape[0], list | tuple):
            shapes = memory_shape
        if memory_shape is None or any(len(shape) != 3 for shape in (inputs_shape, *shapes)):
            raise ValueError(
                "`inputs` and `memory` must have rank 3 (batch, length, channels), and a first call needs both. "
                f"Received shapes: {inputs_shape} and {memory_shape}"
            )
        if not self.cell.built:
            self.cell.build((None, inputs_shape[-1]), memory_shape)

    def project_memory(self, memory: Nest) -> tuple[Nest, Nest]:
        """Computes `(keys, memory)` for `memory_cache`, `(B, S, U)` and `(B, S, Dm)`."""
        return self.cell.project_memory(memory)

    def start(self, keys: Nest, memory: Nest, cell_state: Nest | None = None) -> tuple[Tensor, ...]:
        """The initial states for a call with `memory_cache`, see `AttentionCell.start`."""
        return tuple(self.cell.start(keys, memory, cell_state))

    def call(
        self,
        inputs: Tensor,
        memory: Nest | None = None,
        *,
        cell_state: Nest | None = None,
        inputs_mask: Tensor | None = None,
        memory_mask: Nest | None = None,
        states: Nest | None = None,
        memory_cache: Nest | None = None,
        return_attention_scores: bool = False,
        return_state: bool = False,
        training: bool | None = None,
    ) -> Tensor | tuple[Nest, ...]:
        if (memory is None) == (memory_cache is None):
            raise ValueError(f"Either `memory` or `memory_cache` must be given. Received: {memory} and {memory_cache}")
        if states is not None and cell_state is not None:
            raise ValueError("`cell_state` must be None if `states` are given, which include it. Received: both")
        if inputs.shape[0] == 0:
            options = {"return_attention_scores": return_attention_scores, "return_state": return_state}
            options["training"] = training
            given = {"cell_state": cell_state, "inputs_mask": inputs_mask, "memory_mask": memory_mask}
            given |= {"states": states, "memory_cache": memory_cache}
            return call_on_empty_batch(
                lambda x, memory, given: self.call(x, memory, **given, **options), inputs, memory, given
            )
        keys, memory = self.project_memory(memory) if memory_cache is None else memory_cache
        check_mask("inputs_mask", inputs_mask, inputs.shape[:2])
        masks = self.cell.for_each(memory_mask)
        for mask, x in zip(masks, self.cell.for_each(memory), strict=True):
            check_mask("memory_mask", mask, x.shape[:2])
        if states is None:
            states = self.start(keys, memory, cell_state)
        masks = tuple(boolean("memory_mask", mask) for mask in masks)
        memory_mask = masks if self.cell.has_several else masks[0]
        inputs_mask = None if inputs_mask is None else ops.transpose(boolean("inputs_mask", inputs_mask), (1, 0))
        records = recorder()
        needs_weights = return_attention_scores or records is not None

        def step(x, states):
            output, weights, states = self.cell.step(x, states, keys, memory, memory_mask, bool(training))
            return [output, *tree.flatten(weights)] if needs_weights else [output], states

        outputs, states = scan(step, ops.transpose(inputs, (1, 0, 2)), list(states), inputs_mask)
        self.cell.reset_dropout_mask()
        output, *scores = (ops.transpose(x, (1, 0, 2)) for x in outputs)
        if records is not None:
            for attention, weights in zip(self.cell.attentions, scores, strict=True):
                records[attention.path] = ops.expand_dims(weights, 1)
        scores = (tuple(scores) if self.cell.has_several else scores[0],) if return_attention_scores else ()
        results = (output, *scores, *((tuple(states),) if return_state else ()))
        return results[0] if len(results) == 1 else results

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Nest) -> Shape:
        several = isinstance(memory_shape[0], list | tuple)
        memory_shapes = self.cell.for_each(memory_shape) if several else [memory_shape] * len(self.cell.attentions)
        return (*inputs_shape[:2], self.cell.output_dim(memory_shapes))

    def compute_output_spec(
        self,
        inputs: Tensor,
        memory: Nest | None = None,
        *,
        memory_cache: Nest | None = None,
        return_attention_scores: bool = False,
        return_state: bool = False,
        **kwargs: Any,
    ) -> Nest:
        memory = memory_cache[1] if memory is None else memory
        (batch, length, _), sources = inputs.shape, [x.shape[1] for x in self.cell.for_each(memory)]

        def spec(*shape, dtype=self.compute_dtype):
            return keras.KerasTensor((batch, *shape), dtype=dtype)

        results = [spec(length, self.cell.output_size)]
        if return_attention_scores:
            scores = tuple(spec(length, source) for source in sources)
            results.append(scores if self.cell.has_several else scores[0])
        if return_state:
            states = [
                spec(size, dtype=self.cell.cell.compute_dtype) for size in tree.flatten(self.cell.cell.state_size)
            ]
            counts = zip(self.cell.alignment_states(), sources, strict=True)
            alignment = [spec(source) for count, source in counts for _ in range(count)]
            results.append((*states, spec(self.cell.fed_dim), *alignment))
        return results[0] if len(results) == 1 else tuple(results)
