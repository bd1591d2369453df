"""Decoding several sequences per row with one model: the layout and reordering of their caches."""

from typing import NamedTuple

import keras
from keras import ops

from keras_attn.generation.beam_state import BeamContext
from keras_attn.generation.single_sequence import repeated
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.arrays import add, axis_size, reshape, rows, shape_of
from keras_attn.typing import Nest, Tensor


def beams(decoding, count):
    """Decodes `count` beams per row: in the slots of a shared cache, or as rows of a larger batch."""
    return (SlotBeams if decoding.model.has_slots else RowBeams)(decoding, count)


class SlotState(NamedTuple):
    """Loop variables of `SlotBeams`.

    Attributes:
        token: Int32 `(B, count)`, the last token of each beam.
        cache: The cache of the model's `decode`.
        visible: Bool `(B, count, M)`, the slots of each beam's own sequence.
    """

    token: Tensor
    cache: Nest
    visible: Tensor


class RowState(NamedTuple):
    """Loop variables of `RowBeams`: `token`, int32 `(B, count)`, and the cache of `B * count` rows."""

    token: Tensor
    cache: Nest


class SlotBeams:
    """Beams that share the prompt's slots and the memory; each attends only to the slots of its own sequence.

    The tokens of all beams are written to adjacent slots, at the same position. Reordering beams moves one boolean per
    slot, and no keys or values.

    Args:
        decoding: `Decoding`.
        count: Number of beams.
    """

    def __init__(self, decoding, count):
        self.decoding, self.count = decoding, count

    def start(self, inputs, mask):
        """Returns `(fixed, state)` of all beams before the first token."""
        model, config = self.decoding.model, self.decoding.config
        num_slots = config.max_length * self.count
        (caches, slots), memory = model.prefill(inputs, mask, length=num_slots, bounded=False)
        token, position = model.first_decoder_inputs(inputs, mask, config.start_id)
        batch, size = axis_size(inputs, 0), axis_size(slots[0][0], 1)
        is_prompt = ops.less(ops.arange(size, dtype="int32"), size - num_slots)
        visible = ops.logical_and(is_prompt, ops.ones((batch, self.count, 1), dtype="bool"))
        fixed = BeamContext(memory, ops.repeat(position, self.count, axis=1))
        return fixed, SlotState(
            token=ops.repeat(token, self.count, axis=1), cache=kv_cache.packed((caches, slots)), visible=visible
        )

    def decode(self, fixed, state, step):
        """Returns `(hidden, state)`: hidden states `(B, count, D)` at the tokens of `state`, and the updated state."""
        size = axis_size(state.visible, 2)
        start = size + (step - self.decoding.config.max_length) * self.count
        own = ops.expand_dims(ops.expand_dims(ops.arange(self.count, dtype="int32"), 0), -1) + start
        visible = ops.logical_or(state.visible, ops.equal(ops.arange(size, dtype="int32"), own))
        positions = add(fixed.position, step)
        hidden, cache = self.decoding.model.decode_hidden(
            state.token, positions, state.cache, fixed.memory, attention_mask=visible
        )
        return hidden, state._replace(cache=cache, visible=visible)

    def select(self, state, parents, tokens):
        """The state in which beam `i` continues `parents[:, i]` with `tokens[:, i]`, both int32 `(B, count)`."""
        return state._replace(token=tokens, visible=gather_beams(state.visible, parents))


class RowBeams:
    """Beams as rows of a larger batch, for models whose cache has no slots; see `SlotBeams`."""

    def __init__(self, decoding, count):
        self.decoding, self.count = decoding, count

    def start(self, inputs, mask):
        model, config = self.decoding.model, self.decoding.config
        prefilled = model.prefill(inputs, mask, length=config.max_length)
        token, position = model.first_decoder_inputs(inputs, mask, config.start_id)
        cache, memory, position = repeated((*prefilled, position), self.count, axis_size(inputs, 0))
        return BeamContext(memory, position), RowState(token=ops.repeat(token, self.count, axis=1), cache=cache)

    def decode(self, fixed, state, step):
        token = reshape(state.token, (-1, 1))
        positions = add(fixed.position, step)
        hidden, cache = self.decoding.model.decode_hidden(token, positions, state.cache, fixed.memory)
        return reshape(hidden, (-1, self.count, hidden.shape[-1])), state._replace(cache=cache)

    def select(self, state, parents, tokens):
        indices = flat_rows(parents)
        cache = keras.tree.map_structure(lambda x: rows(x, indices), state.cache)
        return RowState(tokens, cache)


def flat_rows(parents):
    """Beam indices within each row, int32 `(B, n)`, as row indices of a flat batch, `(B * n,)`."""
    return reshape(_flat_indices(parents, parents.shape[1]), (-1,))


def gather_beams(tree, index):
    """Gathers `index`, int32 `(B, m)`, along the second axis of every tensor `(B, n, ...)`: `(B, m, ...)`.

    Gathers rows of a flat batch: `take_along_axis` takes ten times the operations. `n` is static and the same for all.
    """
    indices = _flat_indices(index, keras.tree.flatten(tree)[0].shape[1])

    def taken(x):
        if all(x.shape[2:]):
            return rows(reshape(x, (-1, *x.shape[2:])), indices)
        batch, count, *sizes = shape_of(x)
        return rows(reshape(x, (batch * count, *sizes)), indices)

    return keras.tree.map_structure(taken, tree)


def _flat_indices(index, count):
    """Indices within rows of `count` entries as indices into the flattened rows."""
    offsets = ops.expand_dims(ops.arange(axis_size(index, 0), dtype="int32") * count, -1)
    # The column comes first: Keras treats `(B, B) + (B, 1)` as the addition of a bias.
    return add(offsets, index)
