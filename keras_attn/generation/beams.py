"""Several sequences a row, through one model: where their caches are, and what it takes to reorder them."""

from typing import NamedTuple

import keras
from keras import ops

from keras_attn.generation.beam_state import BeamContext
from keras_attn.generation.single_sequence import repeated
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.arrays import add, rows
from keras_attn.typing import Nest, Tensor


def beams(decoding, count):
    """How a model decodes `count` beams a row: side by side in the slots of one cache, or as rows of their own."""
    return (SlotBeams if decoding.model.has_slots else RowBeams)(decoding, count)


class SlotState(NamedTuple):
    """What `SlotBeams` change from token to token.

    Attributes:
        token: int32 `(B, count)`, the last token of each beam.
        cache: that of the model's `decode`.
        visible: bool `(B, count, M)`, the slots that led to each beam.
    """

    token: Tensor
    cache: Nest
    visible: Tensor


class RowState(NamedTuple):
    """What `RowBeams` change: `token` int32 `(B, count)`, and the cache of `B * count` rows."""

    token: Tensor
    cache: Nest


class SlotBeams:
    """Beams that share the prompt's slots and the memory; each looks only at the slots that led to it.

    A beam's token stands beside those of the others, at the same position. To reorder beams moves a boolean a slot,
    and no key or value.

    Args:
        decoding: `Decoding`.
        count: number of beams.
    """

    def __init__(self, decoding, count):
        self.decoding, self.count = decoding, count

    def start(self, ids, mask):
        """`(fixed, state)` of all beams at the first token."""
        model, config = self.decoding.model, self.decoding.config
        room = config.max_length * self.count
        (caches, slots), memory = model.prefill(ids, mask, length=room, bounded=False)
        token, position = model.first_decoder_inputs(ids, mask, config.start_id)
        batch, size = ops.shape(ids)[0], ops.shape(slots[0][0])[1]
        is_prompt = ops.less(ops.arange(size, dtype="int32"), size - room)
        visible = ops.logical_and(is_prompt, ops.ones((batch, self.count, 1), dtype="bool"))
        fixed = BeamContext(memory, ops.repeat(position, self.count, axis=1))
        return fixed, SlotState(
            token=ops.repeat(token, self.count, axis=1), cache=kv_cache.packed((caches, slots)), visible=visible
        )

    def decode(self, fixed, state, step):
        """`(hidden, state)`: the model's outputs `(B, count, D)` for the tokens of `state`."""
        size = ops.shape(state.visible)[2]
        start = size + (step - self.decoding.config.max_length) * self.count
        own = ops.expand_dims(ops.expand_dims(ops.arange(self.count, dtype="int32"), 0), -1) + start
        visible = ops.logical_or(state.visible, ops.equal(ops.arange(size, dtype="int32"), own))
        positions = add(fixed.position, step)
        hidden, cache = self.decoding.model.decode_hidden(
            state.token, positions, state.cache, fixed.memory, attention_mask=visible
        )
        return hidden, state._replace(cache=cache, visible=visible)

    def select(self, state, parents, tokens):
        """The state in which beam `i` goes on from `parents[:, i]` with `tokens[:, i]`, int32 `(B, count)` both."""
        return state._replace(token=tokens, visible=gather_beams(state.visible, parents))


class RowBeams:
    """Beams as rows of a larger batch, for models whose cache is a state; arguments and methods as `SlotBeams`."""

    def __init__(self, decoding, count):
        self.decoding, self.count = decoding, count

    def start(self, ids, mask):
        model, config = self.decoding.model, self.decoding.config
        prefilled = model.prefill(ids, mask, length=config.max_length)
        token, position = model.first_decoder_inputs(ids, mask, config.start_id)
        cache, memory, position = repeated((*prefilled, position), self.count, ops.shape(ids)[0])
        return BeamContext(memory, position), RowState(token=ops.repeat(token, self.count, axis=1), cache=cache)

    def decode(self, fixed, state, step):
        token = ops.reshape(state.token, (-1, 1))
        positions = add(fixed.position, step)
        hidden, cache = self.decoding.model.decode_hidden(token, positions, state.cache, fixed.memory)
        return ops.reshape(hidden, (-1, self.count, hidden.shape[-1])), state._replace(cache=cache)

    def select(self, state, parents, tokens):
        numbers = flat_rows(parents)
        cache = keras.tree.map_structure(lambda x: rows(x, numbers), state.cache)
        return RowState(tokens, cache)


def flat_rows(parents):
    """int32 `(B, n)`, numbers of beams in a row, as `(B * n,)`, numbers of rows of a flat batch."""
    return ops.reshape(_numbered(parents, parents.shape[1]), (-1,))


def gather_beams(tree, index):
    """Every tensor `(B, n, ...)` at `index`, int32 `(B, m)`, of its second axis: `(B, m, ...)`.

    As rows of a table: `take_along_axis` takes ten times the operations. `n` is known, and the same for all.
    """
    numbers = _numbered(index, keras.tree.flatten(tree)[0].shape[1])

    def taken(x):
        if all(x.shape[2:]):
            return rows(ops.reshape(x, (-1, *x.shape[2:])), numbers)
        batch, count, *sizes = ops.shape(x)
        return rows(ops.reshape(x, (batch * count, *sizes)), numbers)

    return keras.tree.map_structure(taken, tree)


def _numbered(index, count):
    """Numbers within rows of `count` as numbers in all rows, one after another."""
    offsets = ops.expand_dims(ops.arange(ops.shape(index)[0], dtype="int32") * count, -1)
    # The column first: Keras takes `(B, B) + (B, 1)` for the addition of a bias.
    return add(offsets, index)
